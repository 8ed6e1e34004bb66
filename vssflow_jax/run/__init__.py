"""A run's folder and the static half of it."""
