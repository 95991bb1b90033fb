"""Versions of expfw and of its plugin API."""

__version__ = "0.1.0"
API_VERSION = "1.0"
"""Version of the hooks, the contracts and the names in `expfw` and `expfw.testing`; see docs/authors/plugin-api.md."""
