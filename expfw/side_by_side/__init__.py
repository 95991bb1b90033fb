"""Runs side by side: what differs between them, in a table or on a page."""
