"""Dubbing on Chem (Lip2Wav's chemistry lectures, Prajwal et al. 2020), measured as GRID is."""

from configs.benchmarks.grid import get_config

__all__ = ["get_config"]
