"""MLflow's user interface: server and pages."""
