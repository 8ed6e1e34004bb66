"""Sounds from a trained model."""
