"""A vocoder without weights: log-mel to waveform by Griffin and Lim's phase iteration."""

import functools
import inspect
from typing import Any

import librosa
import numpy as np

from vssflow_jax.audio import mel

ITERATIONS = 8
"""Few: each one makes more of what differs in the last bits, such as by the number of devices, and
by 32 of them speech sounds no better (benchmarks/RESULTS.md)."""


def griffin_lim(log_mel: np.ndarray, iterations: int = ITERATIONS) -> np.ndarray:
    """Waveform whose log-mel is close to `log_mel`.

    Magnitudes come from the pseudo-inverse of the mel bank, clipped at zero; phases from the fast
    Griffin-Lim algorithm of librosa (Perraudin et al. 2013), started at random phases of a fixed
    seed so that equal inputs give equal sounds.

    Args:
      log_mel: natural-log mel magnitudes [n, BANDS], 100 frames/s.
      iterations: phase iterations.

    Returns:
      float32 [n * HOP] at 16 kHz, within [-1, 1].
    """
    magnitude = np.maximum(np.exp(log_mel) @ _inverse_filterbank(), 0.0)  # [n, bins]
    waveform = librosa.griffinlim(
        magnitude.T.astype(np.float32),
        n_iter=iterations,
        hop_length=mel.HOP,
        win_length=mel.WINDOW,
        n_fft=mel.WINDOW,
        **_seed(),
    )
    # librosa centres frame i on sample i * HOP; the front end centres it half a hop later.
    delayed = np.concatenate([np.zeros(mel.HOP // 2, np.float32), waveform])
    length = len(log_mel) * mel.HOP
    return np.clip(np.pad(delayed, (0, max(0, length - len(delayed))))[:length], -1.0, 1.0)


@functools.cache
def _seed() -> dict[str, Any]:
    """A seed, as librosa calls it: `random_state` before 1.0."""
    names = inspect.signature(librosa.griffinlim).parameters
    return {"rng" if "rng" in names else "random_state": 0}


@functools.cache
def _inverse_filterbank() -> np.ndarray:
    """Pseudo-inverse of the mel bank, float32 [BANDS, bins]."""
    return np.linalg.pinv(mel.filterbank()).T.astype(np.float32)
