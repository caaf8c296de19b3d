"""Gradient alignment, recipes and the trainer."""
