"""MLflow's store: address, database file, health, deletion."""
