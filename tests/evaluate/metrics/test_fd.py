"""The Frechet distance has a closed form where covariances commute, and refuses what has none."""

import numpy as np
import pytest
import scipy.linalg

from vssflow_jax.evaluate.metrics.fd import (
    MIN_ROWS_TO_EXTRAPOLATE,
    frechet_distance,
    frechet_distance_at_infinity,
)
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


@pytest.mark.parametrize("offset", [0.0, 1e-12, 1e-9, 1e-7])
@pytest.mark.parametrize(("n", "d"), [(2, 3), (9, 64), (80, 16)])
def test_it_is_never_negative(n: int, d: int, offset: float):
    """Of sets that are the same but for their order, or nearly: rounding goes either way."""
    for seed in range(20):
        x = 100 * features(n, d, seed)
        near = x[::-1] + offset * features(n, d, seed + 1)
        assert 0 <= frechet_distance(near, x) < 1e-6
        assert 0 <= frechet_distance(near.astype(np.float32), x.astype(np.float32)) < 1e-6


NORMAL_DEVIATIONS = np.arange(1, 129) ** -0.5  # of each of 128 numbers, which are independent


@pytest.mark.parametrize("num_reference", [100, 600])
def test_at_infinity_it_is_closer_to_that_of_the_distributions(num_reference: int):
    """Normals whose deviations have a ratio of 1.3 and whose first mean differs by 0.5."""
    truth = 0.5**2 + np.sum((0.3 * NORMAL_DEVIATIONS) ** 2)
    rng = np.random.default_rng(0)
    for _ in range(5):
        generated = 1.3 * NORMAL_DEVIATIONS * rng.standard_normal((100, 128))
        generated[:, 0] += 0.5
        reference = NORMAL_DEVIATIONS * rng.standard_normal((num_reference, 128))
        finite = frechet_distance(generated, reference)
        found = frechet_distance_at_infinity(generated, reference)
        assert abs(found.value - truth) < 0.7 * abs(finite - truth)
        assert 0.8 < found.r_squared <= 1
        assert frechet_distance_at_infinity(generated, reference) == found


def test_a_line_through_distances_of_few_sizes_is_refused():
    rows = features(MIN_ROWS_TO_EXTRAPOLATE - 1, 40)
    with pytest.raises(UserError, match="at infinity: 27 rows, at least 28"):
        frechet_distance_at_infinity(rows, rows)
    assert frechet_distance_at_infinity(features(28, 40), features(28, 40, seed=1)).value > 0
