"""Runs trials through other Hydra launchers: Slurm, Ray."""
