"""What a run trains for: one kind of task a file, see `base` and `registry`."""
