"""Imported first by the server that forks trials, before the framework; `expfw.warm` is the last."""

import gc

gc.disable()  # see expfw.large_imports
