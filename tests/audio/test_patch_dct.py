"""The patch codec: what it keeps, what it drops, and the scale of its latents."""

import jax.numpy as jnp
import numpy as np
import pytest

from vssflow_jax.audio.patch_dct import LatentStats, decode, encode, fit
from vssflow_jax.clip import LATENT_CHANNELS

CLIPS, LATENT_FRAMES, BANDS, KEPT = 6, 10, 64, 32
PLAIN = LatentStats(np.zeros(LATENT_CHANNELS, np.float32), np.ones(LATENT_CHANNELS, np.float32))


def from_cepstra(first: int, last: int, seed: int = 0) -> np.ndarray:
    """Log-mels whose frames are random sums of the cosines `first` to `last - 1` over the bands."""
    middles = (np.arange(BANDS) + 0.5) / BANDS
    cosines = np.cos(np.pi * np.arange(first, last)[:, None] * middles)
    rng = np.random.default_rng(seed)
    amounts = rng.normal(size=(CLIPS, 4 * LATENT_FRAMES, last - first))
    return (amounts @ cosines).astype(np.float32)


@pytest.fixture
def log_mels() -> np.ndarray:
    """Sounds about as loud and as rough as real log-mels: means of -4, less in fine cepstra."""
    return sum(from_cepstra(q, q + 1, seed=q) / (1 + q) for q in range(BANDS)) - 4


def test_four_frames_become_one(log_mels: np.ndarray):
    latent = encode(PLAIN, log_mels)
    assert latent.shape == (CLIPS, LATENT_FRAMES, LATENT_CHANNELS)
    assert latent.dtype == jnp.float32
    assert decode(PLAIN, latent).shape == log_mels.shape


@pytest.mark.parametrize("fitted", [False, True])
def test_what_lies_in_the_kept_cepstra_comes_back(log_mels: np.ndarray, fitted: bool):
    stats = fit(log_mels) if fitted else PLAIN
    smooth = from_cepstra(0, KEPT)
    np.testing.assert_allclose(decode(stats, encode(stats, smooth)), smooth, atol=1e-4)


def test_what_lies_outside_is_dropped():
    smooth, rough = from_cepstra(0, KEPT), from_cepstra(KEPT, BANDS)
    np.testing.assert_allclose(encode(PLAIN, rough), 0, atol=1e-4)
    np.testing.assert_allclose(decode(PLAIN, encode(PLAIN, smooth + rough)), smooth, atol=1e-4)


def test_lengths_and_angles_are_kept():
    first, second = from_cepstra(0, KEPT, seed=1), from_cepstra(0, KEPT, seed=2)
    for other in (first, second):
        np.testing.assert_allclose(
            np.sum(encode(PLAIN, first) * encode(PLAIN, other), axis=(1, 2)),
            np.sum(first * other, axis=(1, 2)),
            rtol=1e-4,
            atol=1e-2,
        )


def test_decoding_any_latent_and_encoding_it_is_the_identity(log_mels: np.ndarray):
    stats = fit(log_mels)
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(2, LATENT_FRAMES, LATENT_CHANNELS)).astype(np.float32)
    np.testing.assert_allclose(encode(stats, decode(stats, latent)), latent, atol=1e-4)


def test_a_latent_frame_is_four_mel_frames_and_no_others(log_mels: np.ndarray):
    changed = log_mels.copy()
    changed[:, 12:16] += 1
    difference = np.abs(encode(PLAIN, changed) - encode(PLAIN, log_mels)).max(axis=(0, 2))
    assert np.flatnonzero(difference > 1e-4).tolist() == [3]


def test_fitted_latents_have_mean_zero_and_overall_unit_variance(log_mels: np.ndarray):
    latent = np.asarray(encode(fit(log_mels), log_mels))
    np.testing.assert_allclose(latent.mean(axis=(0, 1)), 0, atol=1e-3)
    assert latent.var() == pytest.approx(1.0, abs=1e-3)


def test_fine_cepstra_stay_weaker_but_less_so_than_in_the_sound(log_mels: np.ndarray):
    def deviations(stats: LatentStats) -> np.ndarray:
        return np.asarray(encode(stats, log_mels)).std(axis=(0, 1))

    raw, fitted = deviations(PLAIN), deviations(fit(log_mels))
    # Half whitened: ratios of standard deviations become their square roots.
    np.testing.assert_allclose((fitted / fitted[0]) ** 2, raw / raw[0], rtol=1e-3)
    assert raw.max() / raw.min() > 5


def test_a_coefficient_that_never_changes_does_not_spoil_the_others(log_mels: np.ndarray):
    # All frames of a patch alike: three of its four cosines in time are always zero.
    steady = np.repeat(log_mels[:, ::4], 4, axis=1)
    stats = fit(steady)
    latent = np.asarray(encode(stats, steady))
    assert np.isfinite(latent).all()
    assert latent.var() == pytest.approx(1.0, abs=1e-3)
