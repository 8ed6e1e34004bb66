"""Files of tensors, and rules from one set of names to another."""
