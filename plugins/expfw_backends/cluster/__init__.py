"""Several processes: who they are, how they meet, who hands out the work."""
