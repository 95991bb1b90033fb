"""What a plugin author programs against: contracts, hooks, `Run`, data, options; `expfw` re-exports it."""
