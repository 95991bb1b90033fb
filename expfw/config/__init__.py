"""Composition of overrides into a frozen `RunConfig`, with one-line error messages."""
