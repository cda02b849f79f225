"""What each operator is: one specification a family, which every other room reads."""

from dtp_edge.ops.refusal import NotCovered as NotCovered
from dtp_edge.ops.spec import Spec as Spec
from dtp_edge.ops.spec import T as T
from dtp_edge.ops.spec import example as example
from dtp_edge.ops.spec import register as register
from dtp_edge.ops.spec import spec_of as spec_of
from dtp_edge.ops.spec import specifications as specifications
