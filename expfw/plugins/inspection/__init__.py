"""Checks plugins in child processes, for `plugins check`."""
