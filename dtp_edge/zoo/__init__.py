"""zoo: small edge networks, and everything else that MODEL may name."""

from dtp_edge.zoo.registry import create as create
from dtp_edge.zoo.registry import entry as entry
from dtp_edge.zoo.registry import example_input as example_input
from dtp_edge.zoo.registry import names as names
from dtp_edge.zoo.resolve import ModelInfo as ModelInfo
from dtp_edge.zoo.resolve import resolve_model as resolve_model
from dtp_edge.zoo.resolve import usual_input as usual_input
from dtp_edge.zoo.weights import load_weights as load_weights
from dtp_edge.zoo.weights import read_weights as read_weights
