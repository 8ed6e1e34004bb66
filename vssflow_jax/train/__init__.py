"""The training loop, its step, and what it reports."""
