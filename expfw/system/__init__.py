"""The operating system: signals, processes, descriptors, files that survive a power cut."""
