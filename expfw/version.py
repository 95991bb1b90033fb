"""The version of expfw, and that of what plugins may count on, in the one place where each is written."""

__version__ = "0.1.0"
API_VERSION = "1.0"
"""Of hooks, contracts and the names of `expfw` and `expfw.testing`: see docs/authors/plugin-api.md."""
