"""Experiments: one file each; variants by `--config=configs/FILE.py:ARGUMENT`."""
