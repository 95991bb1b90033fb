"""Data written to MLflow: metrics, dataset inputs, models, tags."""
