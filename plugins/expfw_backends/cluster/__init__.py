"""Clusters of several processes: their addresses, their connections and the distribution of steps."""
