"""What `expfw sweep --plan` says before a sweep: its trials, what is done already, one of each distinct model."""
