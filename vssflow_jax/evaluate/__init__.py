"""Evaluation: generate the test split, measure it with real tools, show it on a page."""

from vssflow_jax.utils.optional import check

for _package in ("av", "jinja2", "jiwer", "mir_eval", "PIL", "pocketsphinx"):
    check(_package, "demo")  # Imported where they are used: they take their time.
