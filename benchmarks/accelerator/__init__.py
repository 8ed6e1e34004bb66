"""The standing benchmark of one accelerator: `python -m benchmarks.accelerator`."""
