"""Batches of changed images."""
