"""One profiler's file format a file; `measure.trace.readers` finds them."""
