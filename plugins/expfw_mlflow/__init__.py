"""MLflow: the tracker, and the loader of logged models."""
