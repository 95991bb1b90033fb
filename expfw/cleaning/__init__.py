"""Deleting runs and sweeps: what rules choose, what is spared, and how it goes so that nothing is left half."""
