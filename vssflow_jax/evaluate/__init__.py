"""Evaluation: generate the test split, measure it with real tools, show it on a page."""
