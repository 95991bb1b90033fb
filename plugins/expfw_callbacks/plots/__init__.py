"""Plots for callbacks."""
