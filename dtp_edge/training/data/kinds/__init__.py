"""Data sets by name: one kind a file, see `registry`."""
