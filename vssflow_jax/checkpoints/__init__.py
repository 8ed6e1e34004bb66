"""The command `python -m vssflow_jax.checkpoints`."""
