"""What a run leaves on disk, its index, and its delivery to trackers."""
