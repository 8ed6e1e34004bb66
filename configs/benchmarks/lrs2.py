"""Dubbing on LRS2 (Afouras et al. 2018): sentences of British television, measured as GRID is."""

from configs.benchmarks.grid import get_config

__all__ = ["get_config"]
