"""Layers, activations, initializers and options that the models share."""
