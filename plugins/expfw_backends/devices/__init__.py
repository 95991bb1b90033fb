"""GPUs, precision and the state of the TensorFlow installation."""
