"""How sure a mean over clips is: bootstrap intervals, and the comparison of two runs.

Clips are drawn again and again, as many as there are, with replacement. What is resampled is a
ratio of sums over clips: a mean, a corpus word error rate (errors / words), an onset F1
(2 matches / onsets). The Frechet distance is no such ratio, and has no interval here: a resample
holds clips twice and misses others, which shrinks its covariance and adds a distance that is not
there, so that the interval would lie beside the value. The same holds for the inception score.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vssflow_jax.evaluate.metrics.checks import check_rows
from vssflow_jax.utils.errors import UserError

CONFIDENCE = 0.95
RESAMPLES = 2_000
SEED = 0

_MIN_CLIPS = 2


@dataclasses.dataclass(frozen=True)
class ClipSums:
    """What each clip adds to a ratio of sums, numerators / denominators.

    Attributes:
      numerators: [n].
      denominators: [n], none negative.
    """

    numerators: NDArray[np.floating]
    denominators: NDArray[np.floating]

    @classmethod
    def of_mean(cls, values: ArrayLike) -> "ClipSums":
        """The mean of a value for each clip [n]."""
        array = np.asarray(values, np.float64)
        return cls(array, np.ones_like(array))


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Of two runs on the same clips.

    Attributes:
      difference: the second run's score less the first's, with its confidence interval.
      sign_flips: share of the resamples in which the difference is zero or of the other sign; 1 if
        the difference itself is zero.
    """

    difference: Interval
    sign_flips: float


def interval(
    sums: ClipSums,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """Percentile bootstrap interval of a ratio of sums over clips.

    Raises:
      UserError: fewer than two clips, a value that is not finite, or so few denominators above
        zero that a resample has none.
    """
    return _bootstrap(_ratio, [sums.numerators, sums.denominators], confidence, resamples, seed)[0]


def compare(
    first: ClipSums,
    second: ClipSums,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Comparison:
    """Paired comparison of two runs: both are resampled by the same clips.

    Args:
      first: of one run.
      second: of the other, clip for clip in the same order.
      confidence: confidence of the interval.
      resamples: how many.
      seed: seed of the draws.

    Raises:
      UserError: another number of clips; as `interval`.
    """
    rows = [first.numerators, first.denominators, second.numerators, second.denominators]
    difference, drawn = _bootstrap(_difference, rows, confidence, resamples, seed)
    return Comparison(difference, float(np.mean(drawn * np.sign(difference.estimate) <= 0)))


def _ratio(numerators: NDArray[np.floating], denominators: NDArray[np.floating]) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):  # `_bootstrap` looks for it
        return numerators.sum() / denominators.sum()


def _difference(
    first_numerators: NDArray[np.floating],
    first_denominators: NDArray[np.floating],
    second_numerators: NDArray[np.floating],
    second_denominators: NDArray[np.floating],
) -> float:
    second = _ratio(second_numerators, second_denominators)
    return second - _ratio(first_numerators, first_denominators)


def _bootstrap(
    statistic: Callable[..., float],
    sums: Sequence[NDArray[np.floating]],
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[Interval, NDArray[np.float64]]:
    """The interval of a statistic of arrays [n], and its value in each resample."""
    counts = [len(array) for array in sums]
    if len(set(counts)) > 1:
        raise UserError(f"bootstrap: {counts} clips, expected the same ones in all")
    rows = np.stack(sums, axis=1)
    check_rows("bootstrap", rows, least=_MIN_CLIPS)
    rng = np.random.default_rng(seed)
    indices = (rng.integers(len(rows), size=len(rows)) for _ in range(resamples))
    drawn = np.array([statistic(*rows[index].T) for index in indices])
    if not np.isfinite(drawn).all():
        raise UserError(f"bootstrap: too few of {len(rows)} clips have anything to count")
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(statistic(*rows.T)), float(low), float(high)), drawn
