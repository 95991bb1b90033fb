"""Lists and checks the trials of a sweep without running any."""
