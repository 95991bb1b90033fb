"""MLflow: the tracker, and the loader of the models it logs."""
