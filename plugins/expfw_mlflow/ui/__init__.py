"""MLflow's user interface: its server and its pages."""
