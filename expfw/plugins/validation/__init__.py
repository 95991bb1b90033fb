"""Checks that a class is a correct plugin: its hooks, methods and options."""
