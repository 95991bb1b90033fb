"""Sweeps beyond this machine: trials that one of Hydra's launchers starts, followed by the marks they leave."""
