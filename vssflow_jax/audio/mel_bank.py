"""A bank of filters that are triangles over HTK's mels, as Kaldi and VGGish have it.

librosa's are triangles over hertz.
"""

import librosa
import numpy as np
from numpy.typing import NDArray


def triangles(
    sampling_rate: int, fft_size: int, bands: int, lowest_hertz: float, highest_hertz: float
) -> NDArray[np.float64]:
    """Filters whose sides are straight over mel and whose peaks are 1, [bins, bands].

    Args:
      sampling_rate: of the sound, in Hz.
      fft_size: of its frames, which have fft_size / 2 + 1 bins.
      bands: how many filters there are; each begins and ends in the middles of its neighbours.
      lowest_hertz: where the first begins.
      highest_hertz: where the last ends.
    """
    bins = _mel(librosa.fft_frequencies(sr=sampling_rate, n_fft=fft_size))[:, None]
    edges = np.linspace(_mel(lowest_hertz), _mel(highest_hertz), bands + 2)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    return np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clip(0)


def _mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 1127 * np.log1p(np.asarray(hertz) / 700)
