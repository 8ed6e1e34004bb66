"""PaSST: what it hears of sounds of any length, and both of its outputs on many rows."""

import numpy as np
import pytest
from flax import nnx

from tests.networks import small
from vssflow_jax.networks import passt
from vssflow_jax.networks.passt import SAMPLES, SAMPLING_RATE
from vssflow_jax.networks.spread import USES, Spread, function

RNG = np.random.default_rng(0)
SILENCE = (np.log(1e-5) + 4.5) / 5


@pytest.mark.parametrize("samples", [1, 700, 96_001, SAMPLES])
def test_zeros_stand_for_what_is_missing(samples: int) -> None:
    waveforms = RNG.normal(size=(2, samples))
    whole = np.zeros((2, SAMPLES))
    whole[:, :samples] = waveforms
    mels = passt.log_mels(waveforms)
    assert mels.shape == (2, 1000, 128)
    assert mels.dtype == np.float32
    np.testing.assert_array_equal(mels, passt.log_mels(whole))
    silent = 2 + (samples + 512) // 320  # the first frame that sees nothing but zeros
    np.testing.assert_allclose(mels[:, silent:], SILENCE, rtol=1e-6)


def test_what_lies_behind_ten_seconds_is_left_out() -> None:
    waveforms = RNG.normal(size=(1, SAMPLES + 4000)).astype(np.float32)
    np.testing.assert_array_equal(passt.log_mels(waveforms), passt.log_mels(waveforms[:, :SAMPLES]))


@pytest.mark.parametrize("hertz", [440, 3000, 14_000])
def test_a_tone_is_in_its_band(hertz: int) -> None:
    tone = np.sin(2 * np.pi * hertz / SAMPLING_RATE * np.arange(SAMPLES))
    mels = passt.log_mels(tone[None])[0]
    mel, highest = (1127 * np.log1p(x / 700) for x in (hertz, 15_000))
    np.testing.assert_allclose(mels[10:-10].argmax(axis=1), 129 * mel / highest - 1, atol=0.7)


def test_little_is_heard_of_what_is_above_fifteen_kilohertz() -> None:
    hertz = np.array([[14_500], [15_500]])
    tones = np.sin(2 * np.pi * hertz / SAMPLING_RATE * np.arange(SAMPLES))
    heard, leaked = passt.log_mels(tones)[:, 10:-10].max(axis=(1, 2))
    assert heard - leaked > np.log(1e6) / 5  # of the power, a millionth


def test_both_outputs_of_many_rows_are_those_of_each() -> None:
    network = small.network("passt")
    rows = np.asarray(small.examples("passt", 10))
    definition, weights = nnx.split(network)
    spread = Spread(function("passt", definition, "float32"), weights, USES["passt"].rows)
    logits, features = spread(rows)
    assert logits.shape == (10, 9)
    assert features.shape == (10, 128)
    for found, wanted in zip((logits, features), network(rows), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert [x.shape for x in spread(rows[:0])] == [(0, 9), (0, 128)]


def test_each_place_counts() -> None:
    network = small.network("passt")
    rows = np.asarray(small.examples("passt", 2))
    features = np.asarray(network(rows)[1])
    for turned in (rows[:, ::-1], rows[:, :, ::-1]):
        assert np.abs(network(turned)[1] - features).max() > 1e-2
