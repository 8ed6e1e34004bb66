"""Mel-frequency cepstra as the package python_speech_features makes them, which SyncNet hears.

Letters: n samples, t frames.
"""

import functools

import numpy as np
import scipy.fft
from numpy.typing import NDArray

SAMPLING_RATE = 16_000
WINDOW, HOP = 400, 160
FFT_SIZE = 512
BANDS = 26
CEPSTRA = 13
PRE_EMPHASIS = 0.97
LIFTER = 22


def mfcc(samples: NDArray[np.int16]) -> NDArray[np.float64]:
    """Cepstra [t, 13] of a sound [n] at 16 kHz, 100 a second; the first is the log of the energy.

    What lies behind the last frame that would be full is a frame with zeros at its end.
    """
    x = samples.astype(np.float64)
    x = np.concatenate([x[:1], x[1:] - PRE_EMPHASIS * x[:-1]])
    frames = 1 + max(-(-(len(x) - WINDOW) // HOP), 0)
    x = np.pad(x, (0, (frames - 1) * HOP + WINDOW - len(x)))
    starts = HOP * np.arange(frames)
    spectrum = np.abs(np.fft.rfft(x[starts[:, None] + np.arange(WINDOW)], FFT_SIZE))
    power = spectrum**2 / FFT_SIZE
    bands = _above_zero(power @ mel_bank().T)
    cepstra = scipy.fft.dct(np.log(bands), type=2, axis=1, norm="ortho")[:, :CEPSTRA]
    cepstra *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(CEPSTRA) / LIFTER)
    cepstra[:, 0] = np.log(_above_zero(power.sum(axis=1)))
    return cepstra


def _above_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values == 0, np.finfo(np.float64).eps, values)


@functools.cache
def mel_bank() -> NDArray[np.float64]:
    """Triangles [bands, bins] between bins that are nearest below evenly spaced mels."""
    top = 2595 * np.log10(1 + SAMPLING_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    edges = np.floor((FFT_SIZE + 1) * hertz / SAMPLING_RATE)
    low, middle, high = (edges[i : i + BANDS, None] for i in range(3))
    bins = np.arange(FFT_SIZE // 2 + 1)
    rising = (bins - low) / (middle - low)
    falling = (high - bins) / (high - middle)
    return np.where(bins < middle, rising * (bins >= low), falling * (bins < high))
