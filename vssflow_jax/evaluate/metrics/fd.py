"""Frechet distance (FD) of two sets of features, as in av-benchmark (`av_bench/metrics/fad.py`)."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.utils.errors import UserError

_MIN_ROWS = 2  # of which there is a covariance
_NUM_SIZES: Final = 15  # of subsets, as in the paper
MIN_ROWS_TO_EXTRAPOLATE: Final = 2 * (_NUM_SIZES - 1)
"""Of so many rows the larger half of all sizes has fifteen that differ."""
_SEED: Final = 0


class Extrapolation(NamedTuple):
    """The distance at infinitely many rows, and how well that is known.

    Attributes:
      value: the distance.
      r_squared: share of the distances' variance that the line accounts for; 1 if all lie on it.
    """

    value: float
    r_squared: float


def frechet_distance(generated: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Distance of two normal distributions fitted to features.

    |mean_g - mean_r|^2 + tr(S_g) + tr(S_r) - 2 tr(sqrt(S_g S_r)), S the covariance (n - 1).

    The original takes the root by `scipy.linalg.sqrtm`, which up to SciPy 1.15 fails on some
    singular covariances; it then adds 1e-6 to both diagonals, and the distance is lower by about
    0.001. Here the trace of the root is had without the root (`frechet_terms`), which never fails,
    so that nothing is added; from SciPy 1.16 on the original gives the same.

    The distance is never negative: with the factors A and B of `frechet_terms`, tr(S_g) + tr(S_r)
    is |A|^2 + |B|^2, and the trace of the root, the nuclear norm of A B^T, is at most |A| |B|. What
    rounding leaves below zero is zero.

    Args:
      generated: features [n, d].
      reference: features [m, d].

    Returns:
      The distance; of equal sets it is 0 up to rounding.

    Raises:
      UserError: fewer than two rows.
    """
    means, trace_generated, trace_reference, trace_root = frechet_terms(generated, reference)
    return max(means + trace_generated + trace_reference - 2 * trace_root, 0.0)


def frechet_terms(
    generated: NDArray[np.floating], reference: NDArray[np.floating]
) -> tuple[float, float, float, float]:
    """|mean_g - mean_r|^2, tr(S_g), tr(S_r) and tr(sqrt(S_g S_r)), as in `frechet_distance`.

    With S_g = A^T A and S_r = B^T B, the eigenvalues of S_g S_r are the squared singular values of
    A B^T, so that the trace of its root is their sum.
    """
    least = min(len(generated), len(reference))
    if least < _MIN_ROWS:
        raise UserError(f"Frechet distance: {least} rows, at least {_MIN_ROWS} are needed")
    # Like the original, the means keep the precision of the features: float32 as a rule.
    difference = generated.mean(axis=0) - reference.mean(axis=0)
    a, b = _covariance_factor(generated), _covariance_factor(reference)
    return (
        float(difference @ difference),
        float(np.sum(a**2)),
        float(np.sum(b**2)),
        float(np.linalg.norm(a @ b.T, ord="nuc")),
    )


def frechet_distance_at_infinity(
    generated: NDArray[np.floating], reference: NDArray[np.floating]
) -> Extrapolation:
    """The distance that infinitely many generated rows would have, extrapolated.

    The fewer rows a covariance is of, the larger is the distance; to first order by 1 / rows, so
    that the intercept of a line through distances of subsets of the generated rows over 1 / rows
    is without that error (Chong and Forsyth, "Effectively Unbiased FID and Inception Score and
    where to find them", CVPR 2020, arXiv 1911.07023). As there, the subsets have fifteen sizes,
    evenly spread up to all rows; they are drawn without replacement.

    The smallest has half of the rows, where the authors' has a tenth. Theirs, 5,000 rows of 2,048
    numbers, still has more rows than numbers; a tenth of fewer rows lies far off the line, and
    turns it the most. On normal distributions of a known distance, halves come closer to it.

    The reference is whole in all of them, so that the error of its own few rows stays. Where rows
    are far fewer than their features are wide, distances fall faster later on than by the line,
    and the value is still too large. It may be negative where the true distance is small.

    Args:
      generated: features [n, d], `MIN_ROWS_TO_EXTRAPOLATE` at least.
      reference: features [m, d].

    Raises:
      UserError: fewer rows.
    """
    count = len(generated)
    if count < MIN_ROWS_TO_EXTRAPOLATE:
        raise UserError(
            f"Frechet distance at infinity: {count} rows, at least {MIN_ROWS_TO_EXTRAPOLATE} are "
            "needed"
        )
    rng = np.random.default_rng(_SEED)
    sizes = np.linspace(count / 2, count, _NUM_SIZES).round().astype(int)
    distances = np.array(
        [frechet_distance(generated[rng.permutation(count)[:size]], reference) for size in sizes]
    )
    slope, intercept = np.polyfit(1 / sizes, distances, deg=1)
    residuals = distances - (intercept + slope / sizes)
    spread = np.sum((distances - distances.mean()) ** 2)
    r_squared = 1 - np.sum(residuals**2) / spread if spread else 1.0
    return Extrapolation(float(intercept), float(r_squared))


def _covariance_factor(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """A [min(n, d), d] of which A^T A is the covariance of features [n, d]."""
    exact = features.astype(np.float64)
    centred = exact - exact.mean(axis=0)
    return np.linalg.qr(centred, mode="r") / np.sqrt(len(features) - 1)
