"""First module that the fork server imports: switches garbage collection off during the imports."""

import gc

from expfw.plugins.catalogue import get_catalogue

gc.disable()
entries = get_catalogue(()).entries  # cached; it reads the metadata of all distributions
