"""The Frechet distance has a closed form where covariances commute, and refuses what has none."""

import numpy as np
import pytest
import scipy.linalg

from vssflow_jax.evaluate.metrics.fd import frechet_distance
from vssflow_jax.utils.errors import UserError


def features(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) @ np.diag(np.linspace(1, 3, d))


def test_it_is_the_formula_with_the_root_of_a_matrix():
    x, y = features(40, 6), features(70, 6, seed=1) + 0.5
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    means = np.sum((x.mean(0) - y.mean(0)) ** 2)
    expected = means + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("n", [3, 8, 50])  # fewer rows than columns too: a singular covariance
def test_moved_and_stretched_features_by_hand(n: int):
    x = features(n, 8)
    moved, stretched = x + 2, x.mean(0) + 3 * (x - x.mean(0))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(moved, x) == pytest.approx(8 * 4)
    assert frechet_distance(stretched, x) == pytest.approx((3 - 1) ** 2 * x.var(0, ddof=1).sum())


def test_a_column_that_never_changes_does_no_harm():
    x, y = features(50, 4), features(60, 4, seed=1)
    padded = [np.insert(z, 2, 7.0, axis=1) for z in (x, y)]
    assert frechet_distance(*padded) == pytest.approx(frechet_distance(x, y), rel=1e-12)


def test_means_keep_the_precision_of_the_features():
    x, y = (features(99, 8, seed=seed) + 80 for seed in (0, 1))
    single = frechet_distance(x.astype(np.float32), y.astype(np.float32))
    assert single != pytest.approx(frechet_distance(x, y), rel=1e-9)
    assert single == pytest.approx(frechet_distance(x, y), rel=1e-4)


@pytest.mark.parametrize("counts", [(1, 9), (9, 1)])
def test_a_single_row_has_no_covariance(counts: tuple[int, int]):
    with pytest.raises(UserError, match="Frechet distance: 1 rows, at least 2"):
        frechet_distance(*(np.zeros((count, 4)) for count in counts))
