"""The training loop of every TensorFlow backend."""
