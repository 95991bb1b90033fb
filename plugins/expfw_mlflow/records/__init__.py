"""What is written to MLflow: metrics, dataset inputs, models."""
