"""The rules, one family a file. Importing this package registers all of them."""

from dtp_edge.graph.rules import attention as attention
from dtp_edge.graph.rules import combine as combine
from dtp_edge.graph.rules import conv as conv
from dtp_edge.graph.rules import create as create
from dtp_edge.graph.rules import elementwise as elementwise
from dtp_edge.graph.rules import index as index
from dtp_edge.graph.rules import linear as linear
from dtp_edge.graph.rules import norm as norm
from dtp_edge.graph.rules import pool as pool
from dtp_edge.graph.rules import recurrent as recurrent
from dtp_edge.graph.rules import shape as shape
