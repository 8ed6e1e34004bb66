"""The network: layers, attention, conditions, transformer."""
