"""DNSMOS hears speech as better than noise."""

import numpy as np
import pytest

from data.demo import speech
from vssflow_jax.evaluate.metrics.dnsmos import NAMES, dnsmos


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return speech.synthesize("set red in s nine please", "f2", 140, 50).waveform


def test_noise_is_heard(voice):
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(voice))
    clean, noisy = (dnsmos(x) for x in (voice, voice + noise))
    assert set(clean) == set(NAMES)
    for name in NAMES:
        assert 1 <= noisy[name] < clean[name] <= 5, name


def test_loud_samples_are_clipped(voice):
    loud = 4 * voice / np.abs(voice).max()
    assert dnsmos(loud) == dnsmos(np.clip(loud, -1, 1))
