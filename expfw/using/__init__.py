"""Trained models in use: predicting, evaluating on other data, exporting."""
