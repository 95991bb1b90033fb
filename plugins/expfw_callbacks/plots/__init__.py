"""Plots, images and event files for callbacks."""
