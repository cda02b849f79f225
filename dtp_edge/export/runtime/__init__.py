"""Foreign runtimes, each behind one small adapter that runs in a child process of any interpreter."""
