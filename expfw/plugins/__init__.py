"""Which plugins exist, which are usable, and the plugin manager of one run."""
