"""Tests of the graph: labels, groups, masks."""
