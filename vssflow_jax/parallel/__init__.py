"""Meshes, strategies, many processes, chips."""
