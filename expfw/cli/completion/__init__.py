"""TAB completion of commands, keys and values."""
