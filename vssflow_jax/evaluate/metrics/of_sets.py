"""What is measured of all clips together, by features: distances of distributions, and the like.

Features of the mel are at hand. Those of networks lie in folders as av-benchmark writes them,
made there or by `vssflow_jax.evaluate.networks`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from vssflow_jax.evaluate.metrics.fd import frechet_distance
from vssflow_jax.evaluate.networks.files import METRICS
from vssflow_jax.evaluate.rows import Row

MEL: Final = "fd_mel_statistics"
SET_METRICS: Final = (MEL, *METRICS)

SCORERS: Final = "score the folder with VERSA or ESPnet, by the lists beside the wavs"
ELSEWHERE: Final[Mapping[str, str]] = {
    "lse_c": "SyncNet's weights come with no package: score mp4/ with its authors' code",
    "lse_d": "SyncNet's weights come with no package: score mp4/ with its authors' code",
    "utmos": f"its weights come with no package: {SCORERS}",
}
"""What is not measured here -> how to get it."""


def mel_distances(rows: Sequence[Row], versions: Sequence[str]) -> Mapping[str, float]:
    """Frechet distance of each version's mel statistics from those of the true sounds."""
    features = {
        version: np.array([row.mel_statistics[version] for row in rows]) for version in versions
    }
    return {
        version: frechet_distance(values, features["ground_truth"])
        for version, values in features.items()
    }
