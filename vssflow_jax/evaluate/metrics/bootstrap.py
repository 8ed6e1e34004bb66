"""How sure a score over clips is: its bootstrap interval.

Clips are drawn again and again, as many as there are, with replacement. What is resampled is a
ratio of sums over clips: a mean, a corpus word error rate (errors / words), an onset F1
(2 matches / onsets). The Frechet distance is no such ratio, and has no interval here: a resample
holds clips twice and misses others, which shrinks its covariance and adds a distance that is not
there, so that the interval would lie beside the value. The same holds for the inception score.

Where the same clips were generated from several seeds, seeds and clips are drawn anew, apart from
one another: this is the pigeonhole bootstrap of crossed factors (Owen, "The pigeonhole bootstrap",
Annals of Applied Statistics 1(2), 2007, arXiv 0712.1111). The hierarchical bootstrap (Saravanan,
Berman and Sober, 2020, arXiv 2007.07797) is of nested data, such as other clips for each seed.
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


def crossed_interval(
    numerators: ArrayLike, denominators: ArrayLike
) -> tuple[float, float] | tuple[None, None]:
    """Percentile bootstrap interval of a ratio of sums over seeds and clips.

    As many seeds as there are, and as many clips, are drawn with replacement; one draw of clips is
    for all drawn seeds. Of one seed it is `interval`.

    No bootstrap is exact for crossed factors. What is of a clip in a seed alone counts up to three
    times here, which makes intervals too wide rather than too narrow; and what s seeds differ by
    counts (s - 1) / s times, which makes them too narrow where few seeds differ much.

    Args:
      numerators: what each clip adds above in each seed [s, n].
      denominators: what it adds below [s, n], none negative; 0 in both where it was not measured.

    Returns:
      As `interval`.
    """
    sums = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    num_seeds, num_clips = sums[0].shape
    if num_seeds == 1 or num_clips < _MIN_CLIPS:
        return interval(sums[0][0], sums[1][0])
    rng = np.random.default_rng(SEED)
    drawn = []
    for _ in range(0, RESAMPLES, _BATCH):
        # How often each seed is drawn [r, s], and which clips are [r, n].
        times = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=_BATCH)
        clips = rng.integers(num_clips, size=(_BATCH, num_clips))
        above, below = (np.take_along_axis(times @ x, clips, axis=1).sum(axis=1) for x in sums)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn.append(above / below)
    ratios = np.concatenate(drawn)
    if not np.isfinite(ratios).all():
        return None, None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail))
    return float(low), float(high)


def _ratio(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    return numerators.sum(axis=axis) / denominators.sum(axis=axis)
