"""Looking at a dataset that is there, whole or not (`data.inspect`)."""
