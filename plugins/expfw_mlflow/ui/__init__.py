"""MLflow's user interface: server, pages and colors."""
