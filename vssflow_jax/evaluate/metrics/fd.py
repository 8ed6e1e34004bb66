"""Frechet distance (FD) of two sets of features, as in av-benchmark (`av_bench/metrics/fad.py`)."""

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.utils.errors import UserError

_MIN_ROWS = 2  # of which there is a covariance


def frechet_distance(generated: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Distance of two normal distributions fitted to features.

    |mean_g - mean_r|^2 + tr(S_g) + tr(S_r) - 2 tr(sqrt(S_g S_r)), S the covariance (n - 1).

    The original takes the root by `scipy.linalg.sqrtm`, which up to SciPy 1.15 fails on some
    singular covariances; it then adds 1e-6 to both diagonals, and the distance is lower by about
    0.001. Here the trace of the root is had without the root (`frechet_terms`), which never fails,
    so that nothing is added; from SciPy 1.16 on the original gives the same.

    Args:
      generated: features [n, d].
      reference: features [m, d].

    Returns:
      The distance; of equal sets it is 0 up to rounding, of either sign.

    Raises:
      UserError: fewer than two rows.
    """
    means, trace_generated, trace_reference, trace_root = frechet_terms(generated, reference)
    return means + trace_generated + trace_reference - 2 * trace_root


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


def _covariance_factor(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """A [min(n, d), d] of which A^T A is the covariance of features [n, d]."""
    exact = features.astype(np.float64)
    centred = exact - exact.mean(axis=0)
    return np.linalg.qr(centred, mode="r") / np.sqrt(len(features) - 1)
