"""Sweeps: sources of configurations, runners of trials, and results."""
