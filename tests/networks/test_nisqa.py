"""NISQA: what it hears at any rate, segments, and sounds of different lengths in one batch."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from tests.networks import small
from tests.networks.files import as_read
from tests.networks.files import nisqa as published_file
from vssflow_jax.networks import convert_nisqa
from vssflow_jax.networks.nisqa import (
    BANDS,
    HIGHEST_RATE,
    LOWEST_RATE,
    SCORES,
    frames_of,
    least_samples,
    log_mel,
    segments_of,
)
from vssflow_jax.utils.errors import UserError

RNG = np.random.default_rng(0)
RATES = (8_000, 11_025, 16_000, 44_100, 48_000)


def tone(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_is_heard_alike_at_any_rate(rate: int) -> None:
    heard = log_mel(tone(1000, rate), rate)
    assert heard.dtype == np.float32
    assert heard.shape == (99, BANDS)  # of 101 frames, those of whole segments
    inner = heard[10:-10]
    # Slaney's mel of 1 kHz is 15, that of 20 kHz 58.7: the peaks of bands lie 1.2 apart.
    np.testing.assert_array_equal(inner.argmax(axis=1), 12)
    np.testing.assert_allclose(inner[:, 12], log_mel(tone(1000, 48_000), 48_000)[50, 12], atol=0.1)


@pytest.mark.parametrize("rate", RATES)
def test_bands_above_half_the_rate_are_empty(rate: int) -> None:
    heard = log_mel(RNG.normal(size=rate).astype(np.float32), rate)
    begins = librosa.mel_frequencies(BANDS + 2, fmax=20_000)[:BANDS]
    is_empty = (heard == heard.max() - 80).all(axis=0)
    np.testing.assert_array_equal(is_empty, begins >= rate / 2)


@pytest.mark.parametrize("rate", RATES)
def test_silence_is_at_the_floor(rate: int) -> None:
    np.testing.assert_allclose(log_mel(np.zeros(rate, np.float32), rate), -80, rtol=1e-6)
    loud = log_mel(np.concatenate([100 * tone(1000, rate), np.zeros(rate, np.float32)]), rate)
    assert loud.max() > 10
    assert loud[-20:].max() == pytest.approx(loud.max() - 80, abs=1e-4)


@pytest.mark.parametrize("rate", [LOWEST_RATE, 1_000, 8_000, 16_000, 22_050, HIGHEST_RATE])
@pytest.mark.parametrize("segments", [1, 2, 9])
def test_segments_of_sounds_as_short_as_can_be(rate: int, segments: int) -> None:
    samples = least_samples(rate, segments)
    waveform = RNG.normal(size=samples).astype(np.float32)
    heard = log_mel(waveform, rate)
    assert heard.shape == (frames_of(segments), BANDS)
    assert segments_of(len(heard)) == segments
    assert np.isfinite(heard).all()
    assert len(log_mel(waveform[:-1], rate)) == max(frames_of(segments - 1), 0)


def test_scores_know_nothing_of_the_padding() -> None:
    network = small.network("nisqa")
    segments = np.array([50, 17, 1], np.int32)
    mels = 20 * RNG.normal(size=(3, frames_of(50), BANDS)).astype(np.float32) - 40
    with jax.default_matmul_precision("highest"):
        together = network(jnp.asarray(mels), segments=jnp.asarray(segments))
        alone = [
            network(jnp.asarray(mel[None, : frames_of(n)]))[0]
            for mel, n in zip(mels, segments.tolist(), strict=True)
        ]
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-6 * np.abs(alone).max())
    assert np.std(alone, axis=0).min() > 1e-3
    assert together.shape == (3, len(SCORES))


def test_its_siblings_are_refused() -> None:
    """Those of overall quality alone, and of synthesised speech, have other names."""
    tensors = as_read(published_file(small=True).tensors())
    one = {
        name.replace("pool_layers.0", "pool"): x
        for name, x in tensors.items()
        if not name.startswith("pool_layers.") or name.startswith("pool_layers.0")
    }
    with pytest.raises(UserError, match=r"'pool_layers\.0.*it is no file of NISQA 2\.0 \(nisqa"):
        convert_nisqa.config(one)
