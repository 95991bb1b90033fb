"""Summary and export of models."""
