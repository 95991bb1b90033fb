"""The process that delivers journals to trackers, and its client."""
