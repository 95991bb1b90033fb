"""Measurements of the machine."""
