"""Proposes configurations: grids, samplers and pruners."""
