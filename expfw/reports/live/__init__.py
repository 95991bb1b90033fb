"""Live views of runs and sweeps in progress."""
