"""The training loop of all TensorFlow backends."""
