"""Configuration files of expfw: root, recipes, variants and presets."""
