"""The command `runs clean`."""
