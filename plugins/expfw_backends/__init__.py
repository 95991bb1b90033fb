"""Backends that train with TensorFlow. They share one engine; each uses its own distribution strategy."""
