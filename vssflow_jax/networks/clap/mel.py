"""The log-mel front end of LAION-CLAP without fusion: ten seconds at 48 kHz, in decibels.

On the host, in float64: the floor lies 100 dB below a power of one however loud the rest is, and
Fourier transforms in float32 do not hold that.

Letters: b sounds, n samples, t frames, m mel bands.
"""

import functools

import librosa
import numpy as np
from numpy.typing import NDArray

SAMPLING_RATE = 48_000
SOUND_SEC = 10
SAMPLES = SOUND_SEC * SAMPLING_RATE
"""Of what the network hears."""

HOP = 480
FRAMES = 1 + SAMPLES // HOP
BANDS = 64
_WINDOW = 1024
_LOWEST_HERTZ, _HIGHEST_HERTZ = 50, 14_000
_MIN_POWER = 1e-10


def log_mels(waveforms: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mel power in decibels, as `Clap.sound` takes it.

    A sound that is longer than ten seconds is cut behind them, where LAION's code cuts ten seconds
    out at random. One that is shorter is repeated as often as it fits as a whole; silence follows.

    Args:
      waveforms: [b, n] at 48 kHz in [-1, 1], n > 0.

    Returns:
      float32 [b, FRAMES, BANDS].
    """
    return np.stack([_log_mel(filled(waveform.astype(np.float64))) for waveform in waveforms])


def filled(waveform: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ten seconds that are heard of a sound, [n] -> [SAMPLES]; see `log_mels`."""
    assert len(waveform), "a sound has samples"
    whole = np.tile(waveform, max(SAMPLES // len(waveform), 1))[:SAMPLES]
    return np.pad(whole, (0, SAMPLES - len(whole)))


def _log_mel(waveform: NDArray[np.float64]) -> NDArray[np.float32]:
    """[SAMPLES] -> [t, m]."""
    padded = np.pad(waveform, _WINDOW // 2, mode="reflect")
    frames = padded[np.arange(FRAMES)[:, None] * HOP + np.arange(_WINDOW)]  # [t, window]
    hann = librosa.filters.get_window("hann", _WINDOW, fftbins=True)
    power = np.abs(np.fft.rfft(frames * hann)) ** 2  # [t, bins]
    mel = np.maximum(power @ _filterbank().T, _MIN_POWER)
    return (10 * np.log10(mel)).astype(np.float32)


@functools.cache
def _filterbank() -> NDArray[np.float64]:
    """Slaney's mel bank [m, bins], each band of the same area."""
    return librosa.filters.mel(
        sr=SAMPLING_RATE,
        n_fft=_WINDOW,
        n_mels=BANDS,
        fmin=_LOWEST_HERTZ,
        fmax=_HIGHEST_HERTZ,
        dtype=np.float64,
    )
