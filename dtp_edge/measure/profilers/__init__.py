"""One profiler's file format a file; `measure.printout.readers` finds them."""
