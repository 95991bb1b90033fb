"""API for plugin authors: contracts, hooks, `Run`, data, options; re-exported by `expfw`."""
