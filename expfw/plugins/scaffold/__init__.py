"""Writes a new plugin distribution: what `plugins new` does."""
