"""MLflow's store: address, tables, health, deletion."""
