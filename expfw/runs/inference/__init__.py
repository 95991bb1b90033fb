"""Prediction and evaluation with a saved model."""
