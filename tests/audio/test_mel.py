"""The log-mel front end against the formulas of its definition, in float64."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from vssflow_jax.audio import mel

SILENCE = np.log(1e-5)
RATE, WINDOW, HOP, BANDS = 16_000, 1024, 160, 64


def hertz_of_mel(mels: np.ndarray) -> np.ndarray:
    """Slaney's scale: 200/3 Hz a mel up to 1 kHz, then 27 mels for each factor of 6.4."""
    return np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))


def mel_of_hertz(hertz: float) -> float:
    assert hertz >= 1000
    return 15 + 27 * np.log(hertz / 1000) / np.log(6.4)


def corners() -> np.ndarray:
    """Start, centre and end of the bands in Hz: band i goes from corner i to i + 2."""
    return hertz_of_mel(np.linspace(0, mel_of_hertz(8000), BANDS + 2))


def bank() -> np.ndarray:
    """Triangles of area 1 over the FFT's frequencies, [bands, bins]."""
    frequency = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    low, centre, high = (corners()[i : i + BANDS, None] for i in range(3))
    rising, falling = (frequency - low) / (centre - low), (high - frequency) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)


def log_mel(waveform: np.ndarray, num_frames: int) -> np.ndarray:
    """One signal, frame by frame."""
    centred = waveform - waveform.mean()
    x = np.pad(centred / np.abs(centred).max() * 0.5, 432, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    magnitudes = [
        np.abs(np.fft.rfft(hann * x[start : start + WINDOW]))
        for start in range(0, len(x) - WINDOW + 1, HOP)
    ]
    found = np.log(np.maximum(np.array(magnitudes) @ bank().T, 1e-5))[:num_frames]
    return np.pad(found, ((0, num_frames - len(found)), (0, 0)), constant_values=-11)


def computed(waveform: np.ndarray, num_frames: int) -> np.ndarray:
    return np.asarray(mel.log_mel(jnp.asarray(waveform, jnp.float32)[None], num_frames))[0]


def sine(hertz: float, duration_sec: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(duration_sec * RATE)) / RATE)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=8000)


def test_filterbank():
    np.testing.assert_allclose(mel.filterbank(), bank(), atol=1e-7)


def test_filterbank_and_window_are_those_of_librosa():
    bank = librosa.filters.mel(sr=RATE, n_fft=WINDOW, n_mels=BANDS, fmin=0.0, fmax=8000.0)
    np.testing.assert_array_equal(mel.filterbank(), bank)
    hann = librosa.filters.get_window("hann", WINDOW, fftbins=True)
    np.testing.assert_array_equal(mel.window(), hann.astype(np.float32))


def test_log_mel(noise: np.ndarray):
    np.testing.assert_allclose(computed(noise, 50), log_mel(noise, 50), atol=1e-3)


def test_a_clip_of_ten_seconds_has_a_thousand_frames_and_none_is_missing():
    waveform = np.random.default_rng(0).normal(size=160_000)
    found = computed(waveform, 1001)
    assert (found[999] != -11).all()
    assert (found[1000] == -11).all()


def test_surplus_frames_are_cut(noise: np.ndarray):
    np.testing.assert_allclose(computed(noise, 20), log_mel(noise, 50)[:20], atol=1e-3)


@pytest.mark.parametrize("band", [4, 12, 25, 40, 55, 62])
def test_a_sine_lands_in_its_band(band: int):
    centre = corners()[band + 1]
    middle = computed(sine(centre), 50)[25]
    assert middle.argmax() == band


def test_level_and_offset_do_not_matter(noise: np.ndarray):
    loud = computed(noise, 50)
    np.testing.assert_allclose(computed(0.01 * noise, 50), loud, atol=1e-3)
    np.testing.assert_allclose(computed(0.1 * noise + 0.3, 50), loud, atol=1e-3)


def test_the_peak_becomes_a_half(noise: np.ndarray):
    normal = np.asarray(mel.normalise(jnp.asarray([noise, 100 * noise + 5], jnp.float32)))
    np.testing.assert_allclose(np.abs(normal).max(axis=1), 0.5, rtol=1e-5)
    np.testing.assert_allclose(normal.mean(axis=1), 0, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_silence_is_the_floor_and_no_nan(value: float):
    np.testing.assert_allclose(computed(np.full(4000, value), 25), SILENCE, atol=1e-5)


def test_a_frame_is_centred_half_a_hop_after_its_start():
    for frame in (10, 17, 30):
        click = np.zeros(8000)
        click[frame * HOP + HOP // 2] = 1
        loudness = computed(click, 50).mean(axis=1)
        assert loudness.argmax() == frame
        # As loud a frame earlier as a frame later.
        assert loudness[frame - 1] == pytest.approx(loudness[frame + 1], abs=1e-2)


def test_clips_of_a_batch_do_not_share_their_level(noise: np.ndarray):
    batch = jnp.asarray([noise, 1e-3 * noise[::-1]], jnp.float32)
    together = np.asarray(mel.log_mel(batch, 50))
    np.testing.assert_allclose(together[1], computed(noise[::-1], 50), atol=1e-3)


def test_it_runs_inside_a_jitted_function(noise: np.ndarray):
    jitted = jax.jit(mel.log_mel, static_argnums=1)(jnp.asarray(noise, jnp.float32)[None], 50)
    np.testing.assert_allclose(jitted[0], computed(noise, 50), atol=1e-4)
