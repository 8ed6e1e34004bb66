"""Intervals hold what they should as often as they say, and pairs are told apart from noise."""

import numpy as np
import pytest

from vssflow_jax.evaluate.metrics.bootstrap import ClipSums, compare, interval
from vssflow_jax.utils.errors import UserError


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide():
    values = np.random.default_rng(0).standard_normal(400)
    found = interval(ClipSums.of_mean(values))
    error = values.std() / np.sqrt(len(values))
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_the_truth_lies_in_most_intervals():
    rng = np.random.default_rng(1)
    drawn = (interval(ClipSums.of_mean(rng.exponential(size=60)), 0.8, 300) for _ in range(150))
    assert 0.7 <= np.mean([found.low <= 1 <= found.high for found in drawn]) <= 0.88


def test_a_corpus_rate_is_a_ratio_of_sums():
    errors, words = np.array([0, 5, 1]), np.array([9, 1, 10])
    found = interval(ClipSums(errors, words))
    assert found.estimate == pytest.approx(6 / 20)
    assert found.low == 0
    assert found.high == pytest.approx(5)


def test_the_seed_alone_decides():
    sums = ClipSums.of_mean(np.arange(9))
    assert interval(sums) == interval(sums)
    assert interval(sums) != interval(sums, seed=1)
    narrow = interval(sums, confidence=0.5)
    assert interval(sums).low < narrow.low < narrow.high < interval(sums).high


def test_runs_that_differ_little_but_on_every_clip_are_told_apart():
    rng = np.random.default_rng(0)
    first = rng.standard_normal(200)
    steady, noisy = first + 0.02 + 0.01 * rng.standard_normal(200), rng.standard_normal(200)
    found = compare(ClipSums.of_mean(first), ClipSums.of_mean(steady))
    assert found.difference.estimate == pytest.approx(0.02, abs=0.003)
    assert 0.017 < found.difference.low < found.difference.high < 0.023
    assert found.sign_flips == 0
    by_chance = compare(ClipSums.of_mean(first), ClipSums.of_mean(noisy))
    assert by_chance.difference.low < 0 < by_chance.difference.high
    assert by_chance.sign_flips > 0.025


def test_the_order_of_two_runs_turns_the_difference():
    a, b = (ClipSums.of_mean(np.random.default_rng(seed).uniform(size=30)) for seed in (0, 1))
    ahead, back = compare(a, b), compare(b, a)
    assert ahead.difference.estimate == -back.difference.estimate
    assert ahead.difference.low == pytest.approx(-back.difference.high)
    assert ahead.sign_flips == back.sign_flips
    assert compare(a, a).sign_flips == 1


def test_what_has_no_interval_is_refused():
    with pytest.raises(UserError, match="rows 1, at least 2"):
        interval(ClipSums.of_mean([1.0]))
    with pytest.raises(UserError, match=r"row 1 .* not finite"):
        interval(ClipSums.of_mean([1.0, np.nan]))
    with pytest.raises(UserError, match="too few of 2 clips"):
        interval(ClipSums(np.array([1, 0]), np.array([2, 0])))
    with pytest.raises(UserError, match="expected the same ones"):
        compare(ClipSums.of_mean([1, 2]), ClipSums.of_mean([1, 2, 3]))
