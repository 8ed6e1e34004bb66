"""The command `python -m vssflow_jax.evaluate.compare`."""
