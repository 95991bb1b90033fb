"""Checks plugins thoroughly, in child processes: what `plugins check` reports."""
