"""Preparing images and scaling features."""
