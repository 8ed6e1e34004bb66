"""Mel distance: how far two sounds are apart in level, band by band and frame by frame."""

import numpy as np
from numpy.typing import NDArray

DB_PER_NEPER = 20 / np.log(10)  # the log-mel is the natural logarithm of a magnitude


def mel_distance(log_mel_a: NDArray[np.floating], log_mel_b: NDArray[np.floating]) -> float:
    """Mean absolute difference of two log-mels, in dB: 20 / ln(10) * mean |a - b|.

    Args:
      log_mel_a: natural-log mel magnitudes [n, m].
      log_mel_b: the same of another sound, [n, m].

    Raises:
      ValueError: the shapes differ, or there is nothing to compare.
    """
    if log_mel_a.shape != log_mel_b.shape or log_mel_a.size == 0:
        raise ValueError(
            f"mel distance of shapes {log_mel_a.shape} and {log_mel_b.shape}: "
            "they must be equal and not empty"
        )
    return float(DB_PER_NEPER * np.mean(np.abs(log_mel_a - log_mel_b)))
