"""Weights from and to PyTorch: what each tensor of a source becomes here."""
