"""When each phoneme is spoken: another network and its training."""
