"""Frechet distance on mel statistics: one that needs no network.

It follows the colour and the dynamics of the sounds, not what they are of. No published figure is
on these features; it compares runs with one another.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.errors import UserError
from vssflow_jax.evaluate.metrics.checks import check_rows
from vssflow_jax.evaluate.metrics.fd import frechet_distance


def mel_statistics(log_mel: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean and standard deviation over time of each mel band [2 m], of a log-mel [n, m].

    Raises:
      UserError: no frames, or a value that is not finite.
    """
    check_rows("mel statistics", log_mel)
    exact = log_mel.astype(np.float64)
    return np.concatenate([exact.mean(axis=0), exact.std(axis=0)])


def mel_statistics_fd(
    generated: Sequence[NDArray[np.floating]], reference: Sequence[NDArray[np.floating]]
) -> float:
    """Frechet distance of the mel statistics of two sets of clips.

    Args:
      generated: a log-mel [n, m] for each clip; n may differ.
      reference: the same of other sounds, of as many bands; the number of clips may differ.

    Raises:
      UserError: fewer than two clips on a side, and as `mel_statistics`.
    """
    if not (generated and reference):
        raise UserError("mel statistics: there are no clips")
    features = [np.stack([mel_statistics(x) for x in mels]) for mels in (generated, reference)]
    return frechet_distance(*features)
