"""The command `python -m vssflow_jax.evaluate.score`: sounds of any system against true ones."""
