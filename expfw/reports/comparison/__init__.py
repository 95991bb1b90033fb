"""Comparison of several runs, as a table or an HTML page."""
