"""Data sets by name, and the splits that training reads."""

from dtp_edge.training.data.arrays import from_arrays as from_arrays
from dtp_edge.training.data.load import load_data as load_data
from dtp_edge.training.data.load import load_inputs as load_inputs
from dtp_edge.training.data.registry import is_sized as is_sized
from dtp_edge.training.data.source import ArraySplit as ArraySplit
from dtp_edge.training.data.source import DataSource as DataSource
from dtp_edge.training.data.source import Split as Split
