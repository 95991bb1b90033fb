"""What a model is made of, and exporting it."""
