"""The operating system: signals, processes, descriptors, and files that survive a power failure."""
