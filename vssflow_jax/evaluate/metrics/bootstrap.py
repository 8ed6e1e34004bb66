"""How sure a score over clips is: its bootstrap interval.

Clips are drawn again and again, as many as there are, with replacement. What is resampled is a
ratio of sums over clips: a mean, a corpus word error rate (errors / words), an onset F1
(2 matches / onsets). The Frechet distance is no such ratio, and has no interval here: a resample
holds clips twice and misses others, which shrinks its covariance and adds a distance that is not
there, so that the interval would lie beside the value. The same holds for the inception score.
"""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2_000
SEED = 0

_BATCH = 100  # resamples at a time, which bounds the memory
_MIN_CLIPS = 2


def interval(
    numerators: ArrayLike, denominators: ArrayLike
) -> tuple[float, float] | tuple[None, None]:
    """Percentile bootstrap interval of a ratio of sums over clips.

    Args:
      numerators: what each clip adds above [n].
      denominators: what it adds below [n], none negative; ones for a mean.

    Returns:
      The low and the high end; None twice for fewer than two clips, for a value that is not finite,
      and where so few denominators are above zero that a resample has none.
    """
    sums = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if len(sums[0]) < _MIN_CLIPS:
        return None, None
    # A resample without a denominator is looked for below.
    ignored = warnings.catch_warnings(action="ignore", category=stats.DegenerateDataWarning)
    with ignored, np.errstate(divide="ignore", invalid="ignore"):
        found = stats.bootstrap(
            sums,
            _ratio,
            n_resamples=RESAMPLES,
            batch=_BATCH,
            vectorized=True,
            paired=True,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(SEED),
        )
    if not np.isfinite(found.bootstrap_distribution).all():
        return None, None
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _ratio(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    return numerators.sum(axis=axis) / denominators.sum(axis=axis)
