"""Dubbing on Chem (Lip2Wav's chemistry lectures, Prajwal et al. 2020).

Any sentence may be said, and the recogniser here knows GRID alone: score `wer` with ESPnet or VERSA
on the lists beside the wavs.
"""

import ml_collections

from configs.benchmarks.grid import METRICS


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {"tasks": ("visualtts",), "metrics": METRICS, "recogniser": "none"}
    )
