import numpy as np
import pytest

from vssflow_jax.evaluate.metrics.mel_distance import mel_distance


def test_equal_sounds_are_at_distance_zero():
    log_mel = np.random.default_rng(0).standard_normal((300, 64))
    assert mel_distance(log_mel, log_mel) == 0.0


def test_ten_times_the_magnitude_is_twenty_decibels_both_ways():
    log_mel = np.zeros((300, 64))
    louder = log_mel + np.log(10)
    assert mel_distance(log_mel, louder) == pytest.approx(20)
    assert mel_distance(louder, log_mel) == pytest.approx(20)


def test_it_averages_over_frames_and_bands():
    log_mel = np.zeros((4, 2))
    other = log_mel.copy()
    other[0, 0] = np.log(10)
    assert mel_distance(log_mel, other) == pytest.approx(20 / 8)


@pytest.mark.parametrize("shape", [(300, 63), (1, 64)])
def test_other_shapes_are_refused_rather_than_broadcast(shape):
    with pytest.raises(ValueError, match="shapes"):
        mel_distance(np.zeros((300, 64)), np.zeros(shape))


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match="empty"):
        mel_distance(np.zeros((0, 64)), np.zeros((0, 64)))
