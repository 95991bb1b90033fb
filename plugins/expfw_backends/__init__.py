"""Backends that train with TensorFlow: one engine, a strategy each."""
