"""Writes a new plugin distribution, for `plugins new`."""
