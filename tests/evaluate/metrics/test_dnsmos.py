"""DNSMOS hears speech as better than noise, and refuses what it cannot judge."""

import numpy as np
import pytest

from data.demo import speech
from vssflow_jax.evaluate.metrics.dnsmos import NAMES, SAMPLING_RATE, dnsmos
from vssflow_jax.utils.errors import UserError


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return speech.synthesize("set red in s nine please", "f2", 140, 50).waveform


def test_noise_is_heard(voice):
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(voice))
    clean, noisy = (dnsmos(x, SAMPLING_RATE) for x in (voice, voice + noise))
    assert set(clean) == set(NAMES)
    for name in NAMES:
        assert 1 <= noisy[name] < clean[name] <= 5, name


def test_loud_samples_are_clipped(voice):
    loud = 4 * voice / np.abs(voice).max()
    assert dnsmos(loud, SAMPLING_RATE) == dnsmos(np.clip(loud, -1, 1), SAMPLING_RATE)


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (np.zeros(0), SAMPLING_RATE, r"shape \(0,\)"),
        (np.zeros((2, 100)), SAMPLING_RATE, r"shape \(2, 100\)"),
        (np.array([0.0, np.nan]), SAMPLING_RATE, "not finite"),
        (np.zeros(100), 22_050, "22050 Hz, expected 16000"),
    ],
)
def test_what_cannot_be_judged_is_refused(waveform, rate, message):
    with pytest.raises(UserError, match=message):
        dnsmos(waveform, rate)
