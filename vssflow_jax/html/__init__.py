"""Pages: one look, clips, curves."""
