"""Frechet distances against `metrics_fd.npz`."""

from collections.abc import Iterator

import numpy as np

from tests.parity.golden import METRIC, Golden, Row, compare
from vssflow_jax.evaluate.metrics.fd import frechet_distance, frechet_terms

NEARLY_SINGULAR = 1e-3
# From here on the original's root of the product of two covariances is imprecise.
LARGE_CONDITION = 1e6
EPSILON = 1e-6


def check(golden: Golden) -> Iterator[Row]:
    """A row for the terms of each case, and for its distance, by each version of SciPy."""
    for case in golden.cases("_x"):
        yield from check_case(golden, case)


def check_case(golden: Golden, case: str) -> Iterator[Row]:
    x, y = golden[f"{case}_x"], golden[f"{case}_y"]
    singular = max(np.linalg.cond(np.cov(z, rowvar=False)) for z in (x, y)) > LARGE_CONDITION
    tolerance = NEARLY_SINGULAR if singular else METRIC
    terms = frechet_terms(x, y)[:3]
    yield golden.row(f"{case}_terms", terms, METRIC)

    exact = frechet_distance(x.astype(np.float64), y.astype(np.float64))
    distances = {f"{case}_fd_f64exact": exact}
    for version, eps_used in golden.below(f"{case}_eps_used").items():
        ours = sum(terms) - 2 * root_with_epsilon(x, y) if eps_used else frechet_distance(x, y)
        distances[f"{case}_fd{version}"] = ours
    for key, ours in distances.items():
        if np.array_equal(x, y):  # The distance is rounding; that of which it is one is compared.
            whole = sum(terms)
            yield compare(f"{golden.name}/{key}", whole + ours, whole + golden[key], tolerance)
        else:
            yield golden.row(key, ours, tolerance)


def root_with_epsilon(x: np.ndarray, y: np.ndarray) -> float:
    """tr(sqrt(S_x S_y)), epsilon on both diagonals: the original where its first root failed."""
    a, b = (np.cov(z, rowvar=False) + EPSILON * np.eye(z.shape[1]) for z in (x, y))
    return np.sum(np.sqrt(np.linalg.eigvals(a @ b))).real
