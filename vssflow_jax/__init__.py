"""VSSFlow in JAX: one flow-matching transformer for the sound and the speech of a silent video."""

__version__ = "0.1.0"
