"""Records to batches on devices."""
