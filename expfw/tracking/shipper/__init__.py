"""The shipper process, which delivers journals to trackers, and its client."""
