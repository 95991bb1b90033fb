"""Completes commands, keys and values when TAB is pressed."""
