"""Frechet distance on mel statistics: one that needs no network.

It follows the colour and the dynamics of the sounds, not what they are of. No published figure is
on these features; it compares runs with one another.
"""

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.evaluate.metrics.checks import check_rows


def mel_statistics(log_mel: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean and standard deviation over time of each mel band [2 m], of a log-mel [n, m].

    Raises:
      UserError: no frames, or a value that is not finite.
    """
    check_rows("mel statistics", log_mel)
    exact = log_mel.astype(np.float64)
    return np.concatenate([exact.mean(axis=0), exact.std(axis=0)])
