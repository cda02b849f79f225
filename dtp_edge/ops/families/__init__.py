"""The families of operators: one file each, found by itself. What is shared stands in `dtp_edge.ops`."""
