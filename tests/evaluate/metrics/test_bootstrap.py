"""Intervals hold what they should as often as they say."""

import numpy as np
import pytest

from vssflow_jax.evaluate.metrics.bootstrap import interval


def of_mean(values) -> tuple[float, float]:
    low, high = interval(values, np.ones(len(values)))
    assert low is not None
    assert high is not None
    return low, high


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide():
    values = np.random.default_rng(0).standard_normal(400)
    low, high = of_mean(values)
    error = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_the_truth_lies_in_most_intervals():
    rng = np.random.default_rng(1)
    drawn = (of_mean(rng.exponential(size=60)) for _ in range(150))
    assert 0.88 <= np.mean([low <= 1 <= high for low, high in drawn]) <= 0.99


def test_a_corpus_rate_is_a_ratio_of_sums():
    errors, words = np.array([0, 5, 1]), np.array([9, 1, 10])
    assert interval(errors, words) == (0, pytest.approx(5))


def test_it_is_the_same_each_time():
    values = np.arange(9)
    assert of_mean(values) == of_mean(values)


def test_runs_that_differ_little_but_on_every_clip_are_told_apart():
    rng = np.random.default_rng(0)
    first = rng.standard_normal(200)
    low, high = of_mean(0.02 + 0.01 * rng.standard_normal(200))
    assert 0.017 < low < high < 0.023
    low, high = of_mean(rng.standard_normal(200) - first)
    assert low < 0 < high


@pytest.mark.parametrize(
    ("numerators", "denominators"),
    [([1.0], [1.0]), ([1.0, np.nan], [1.0, 1.0]), ([1.0, 0.0], [2.0, 0.0])],
)
def test_what_has_no_interval(numerators: list[float], denominators: list[float]):
    assert interval(numerators, denominators) == (None, None)
