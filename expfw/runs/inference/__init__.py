"""Predicts and evaluates with a saved model."""
