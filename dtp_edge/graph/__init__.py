"""Which channels of a network can go, and what goes with them."""

from dtp_edge.graph.branches import Branch as Branch
from dtp_edge.graph.branches import Depth as Depth
from dtp_edge.graph.build import label_network as label_network
from dtp_edge.graph.build import trace_network as trace_network
from dtp_edge.graph.layers import Dim as Dim
from dtp_edge.graph.layers import Layer as Layer
from dtp_edge.graph.layers import LayerGraph as LayerGraph
from dtp_edge.graph.layers import Tensor as Tensor
from dtp_edge.graph.masking import MaskedNetwork as MaskedNetwork
from dtp_edge.graph.masking import masked_forward as masked_forward
from dtp_edge.graph.masking import scaled_parameters as scaled_parameters
from dtp_edge.graph.modes import mode_of as mode_of
from dtp_edge.graph.network import Frozen as Frozen
from dtp_edge.graph.network import Group as Group
from dtp_edge.graph.network import NodeSite as NodeSite
from dtp_edge.graph.network import ParameterSite as ParameterSite
from dtp_edge.graph.network import PrunableNetwork as PrunableNetwork
from dtp_edge.graph.network import kept_indices as kept_indices
