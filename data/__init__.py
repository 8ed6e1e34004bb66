"""Making datasets: demo clips, feature extraction, ArrayRecord shards. Not part of the package."""
