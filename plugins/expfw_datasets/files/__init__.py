"""Readers of the file formats in which datasets come."""
