"""Runs trials on this machine, each in a process forked from a warm server."""
