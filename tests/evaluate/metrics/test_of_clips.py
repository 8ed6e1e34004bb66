import numpy as np
import pytest

from data.demo import speech
from vssflow_jax.clip import to_int16
from vssflow_jax.evaluate.metrics.of_clips import Prediction, Reference, distance_of_mels

REFERENCE = Reference("v2s", "", np.zeros(0), "raw")


def distance(a: np.ndarray, b: np.ndarray) -> float:
    sound, truth = (Prediction(np.zeros(0), log_mel) for log_mel in (a, b))
    value, weight = distance_of_mels(sound, truth, REFERENCE)
    assert weight == 1
    return value


def test_equal_sounds_are_at_distance_zero():
    log_mel = np.random.default_rng(0).standard_normal((300, 64))
    assert distance(log_mel, log_mel) == 0.0


def test_ten_times_the_magnitude_is_twenty_decibels_both_ways():
    log_mel = np.zeros((300, 64))
    louder = log_mel + np.log(10)
    assert distance(log_mel, louder) == pytest.approx(20)
    assert distance(louder, log_mel) == pytest.approx(20)


def test_it_averages_over_frames_and_bands():
    log_mel = np.zeros((4, 2))
    other = log_mel.copy()
    other[0, 0] = np.log(10)
    assert distance(log_mel, other) == pytest.approx(20 / 8)


def test_dnsmos_hears_noise():
    voice = speech.synthesize("set red in s nine please", "f2", 140, 50).waveform
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(voice))
    clean, noisy = (
        Prediction(to_int16(x), np.zeros((1, 64))).dnsmos for x in (voice, voice + noise)
    )
    for name in ("sig", "bak", "ovrl", "p808"):
        assert 1 <= noisy[name] < clean[name] <= 5, name
