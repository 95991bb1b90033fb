"""The CPU and the GPUs of this machine, and the import of TensorFlow."""
