"""GPUs, imports and checks of the TensorFlow installation."""
