"""The log-mel front end of Whisper (`whisper/audio.py` of its release).

On the host, in float64: what is 8 decades below the loudest still counts, and Fourier transforms in
float32 do not hold that.

Letters: n samples, t frames, m mel bands.
"""

import functools

import librosa
import numpy as np
from numpy.typing import NDArray

SAMPLING_RATE = 16_000
WINDOW_SEC = 30
SAMPLES = WINDOW_SEC * SAMPLING_RATE
"""Of the window that the network hears at once."""

WINDOW = 400
HOP = 160
FRAMES = SAMPLES // HOP
_MIN_POWER = 1e-10
_RANGE = 8.0  # decades below the loudest
_SHIFT = 4.0


@functools.cache
def filterbank(bands: int) -> NDArray[np.float64]:
    """Slaney's mel bank [m, WINDOW // 2 + 1], each band of the same area."""
    return librosa.filters.mel(sr=SAMPLING_RATE, n_fft=WINDOW, n_mels=bands, dtype=np.float64)


def log_mel(waveform: NDArray[np.floating], bands: int) -> NDArray[np.float32]:
    """Mel power on a scale of tens, nothing more than 8 decades below the loudest.

    Args:
      waveform: [n] at 16 kHz, `SAMPLES` at most; silence follows up to the end of the window.
      bands: m, 80, or 128 for large-v3 and turbo.

    Returns:
      float32 [FRAMES, m].
    """
    padded = np.pad(waveform.astype(np.float64), (0, SAMPLES - len(waveform)))
    padded = np.pad(padded, WINDOW // 2, mode="reflect")
    heard = min(-(-(len(waveform) + WINDOW // 2) // HOP), FRAMES)
    frames = padded[np.arange(heard)[:, None] * HOP + np.arange(WINDOW)]  # [t, window]
    hann = librosa.filters.get_window("hann", WINDOW, fftbins=True)
    power = np.abs(np.fft.rfft(frames * hann)) ** 2  # [t, bins]
    mel = np.zeros((FRAMES, bands))
    mel[:heard] = power @ filterbank(bands).T
    decades = np.log10(np.maximum(mel, _MIN_POWER))
    scaled = (np.maximum(decades, np.max(decades) - _RANGE) + _SHIFT) / _SHIFT
    return scaled.astype(np.float32)
