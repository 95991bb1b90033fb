"""Data written to MLflow: records of journals, dataset inputs, models."""
