"""Files that a run writes, the index of runs, and delivery to trackers."""
