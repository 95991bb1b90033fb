"""MLflow's store: its address, its tables, its state."""
