"""GPUs, number precision and checks of the TensorFlow installation."""
