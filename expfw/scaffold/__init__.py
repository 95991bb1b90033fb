"""What `expfw plugins new` writes: a distribution with a plugin in it, ready to be changed."""
