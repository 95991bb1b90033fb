"""The plots that callbacks draw."""
