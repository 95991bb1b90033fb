"""Finds, validates and loads plugins, and creates the plugin manager of a run."""
