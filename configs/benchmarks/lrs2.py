"""Dubbing on LRS2 (Afouras et al. 2018): sentences of British television, measured as Chem is."""

from configs.benchmarks.chem import get_config

__all__ = ["get_config"]
