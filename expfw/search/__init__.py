"""Where the configurations of a sweep come from: spaces, grids, and samplers over an Optuna study."""
