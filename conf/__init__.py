"""Configuration that ships with expfw: the root, recipes, variants and presets."""
