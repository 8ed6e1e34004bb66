"""Intervals hold what they should as often as they say."""

import numpy as np
import pytest

from vssflow_jax.evaluate.metrics.bootstrap import crossed_interval, interval


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


class Crossed:
    """Scores of the same clips in several seeds, whose mean is 1.

    Args:
      seed, clip, both: deviations of what each seed adds, each clip, and each clip in each seed.
    """

    def __init__(self, num_seeds: int, num_clips: int, seed: float, clip: float, both: float):
        self.shape = num_seeds, num_clips
        self.deviations = seed, clip, both
        self.rng = np.random.default_rng(0)

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """What clips add above and below [s, n]: some count three times as much as others."""
        num_seeds, num_clips = self.shape
        shapes = (num_seeds, 1), (1, num_clips), self.shape
        effects = (
            deviation * self.rng.standard_normal(shape)
            for deviation, shape in zip(self.deviations, shapes, strict=True)
        )
        below = np.broadcast_to(self.rng.integers(3, 10, num_clips), self.shape)
        return (1 + sum(effects)) * below, below

    def coverage(self, find) -> float:
        ends = (find(*self.draw()) for _ in range(200))
        return float(np.mean([low <= 1 <= high for low, high in ends]))


@pytest.mark.parametrize(
    "truth",
    [
        Crossed(20, 60, seed=0.5, clip=1.0, both=0.3),
        Crossed(20, 40, seed=1.0, clip=0.5, both=0.3),
        Crossed(3, 40, seed=0.0, clip=1.0, both=0.5),
    ],
    ids=["both", "seeds", "clips"],
)
def test_the_truth_lies_in_most_intervals_over_seeds_and_clips(truth: Crossed):
    assert 0.90 <= truth.coverage(crossed_interval) <= 0.98


def test_intervals_over_clips_alone_forget_that_seeds_differ():
    truth = Crossed(12, 40, seed=1.0, clip=1.0, both=0.3)

    def over_clips(above: np.ndarray, below: np.ndarray):
        return interval(above.sum(axis=0), below.sum(axis=0))

    assert truth.coverage(over_clips) < 0.85


def test_what_is_of_single_clips_in_seeds_makes_it_too_wide_rather_than_too_narrow():
    """By root three at most, as what they add counts three times."""
    truth = Crossed(10, 50, seed=0.0, clip=0.0, both=1.0)
    low, high = crossed_interval(truth.draw()[0], np.ones(truth.shape))
    above = truth.draw()[0]
    exact = 2 * 1.96 * above.std() / np.sqrt(above.size)
    assert 1.2 < (high - low) / exact < 1.9


def test_of_one_seed_it_is_that_of_clips():
    above, below = Crossed(1, 30, seed=0.0, clip=1.0, both=0.0).draw()
    assert crossed_interval(above, below) == interval(above[0], below[0])


def test_over_seeds_too_there_may_be_no_interval():
    assert crossed_interval([[1.0], [2.0]], [[1.0], [1.0]]) == (None, None)
    assert crossed_interval([[1.0, 0.0]] * 2, [[2.0, 0.0]] * 2) == (None, None)
