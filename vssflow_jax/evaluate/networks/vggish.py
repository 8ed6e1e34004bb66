"""VGGish (Hershey et al. 2017, arXiv 1609.09430), the network of the Frechet audio distance.

Source: av-benchmark (`av_bench/vggish`): without the last activation, and without the PCA and the
quantisation of the original release.

Letters: n samples, w windows of 0.96 s, t frames, m mel bands.
"""

import functools
from pathlib import Path

import jax
import librosa
import numpy as np
from numpy.typing import NDArray

from vssflow_jax.audio.mel_bank import triangles
from vssflow_jax.evaluate.networks.files import Cache
from vssflow_jax.evaluate.networks.layers import (
    Shapes,
    Weights,
    convolution,
    halves,
    linear,
    read_weights,
)

PUBLISHED = "torchvggish (vggish-10086976.pth)"
WIDTH = 128  # of the features
FEATURES = Cache("vggish", "features", (None, WIDTH), "vggish_features.pth")
CONVOLUTIONS = {0: 64, 3: 128, 6: 256, 8: 256, 11: 512, 13: 512}  # place in the file: channels
POOLED = (0, 3, 8, 13)  # after these
EMBEDDINGS = {0: 4096, 2: 4096, 4: WIDTH}

WINDOW = 400
HOP = 160
FFT_SIZE = 512
BANDS = 64
SAMPLING_RATE = 16_000
MIN_HERTZ, MAX_HERTZ = 125.0, 7_500.0
LOG_OFFSET = 0.01
FRAMES = 96  # of a window of 0.96 s
MIN_SAMPLES = WINDOW + (FRAMES - 1) * HOP


def load(path: Path) -> Weights:
    """The weights of a file.

    Raises:
      UserError: the file is not whole, or of another network.
    """
    return read_weights(path, PUBLISHED, shapes(), ignored=("pproc.*",))


def shapes() -> Shapes:
    """Of all tensors of a file."""
    found: dict[str, tuple[int, ...]] = {}
    width = 1
    for place, channels in CONVOLUTIONS.items():
        found[f"features.{place}.weight"] = (channels, width, 3, 3)
        found[f"features.{place}.bias"] = (channels,)
        width = channels
    shrunk = 2 ** len(POOLED)
    width *= (FRAMES // shrunk) * (BANDS // shrunk)
    for place, outer in EMBEDDINGS.items():
        found[f"embeddings.{place}.weight"] = (outer, width)
        found[f"embeddings.{place}.bias"] = (outer,)
        width = outer
    return found


def forward(weights: Weights, log_mels: jax.Array) -> jax.Array:
    """Features [w, 128] of log-mels [w, t, m]."""
    x = log_mels[..., None]
    for place in CONVOLUTIONS:
        x = convolution(weights[f"features.{place}.weight"], x) + weights[f"features.{place}.bias"]
        x = jax.nn.relu(x)
        if place in POOLED:
            x = halves(x).max(axis=(2, 4))
    x = x.reshape(len(x), -1)
    for place in EMBEDDINGS:
        x = linear(weights, f"embeddings.{place}", x if place == 0 else jax.nn.relu(x))
    return x


def log_mel_windows(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log of the mel magnitudes [w, t, m] of a waveform [n]."""
    frames = librosa.util.frame(waveform.astype(np.float64), frame_length=WINDOW, hop_length=HOP)
    hann = librosa.filters.get_window("hann", WINDOW, fftbins=True)
    magnitude = np.abs(np.fft.rfft(frames.T * hann, FFT_SIZE))  # [t, bins]
    log_mel = np.log(magnitude @ mel_bank() + LOG_OFFSET)
    windows = len(log_mel) // FRAMES
    return log_mel[: windows * FRAMES].reshape(windows, FRAMES, BANDS).astype(np.float32)


@functools.cache
def mel_bank() -> NDArray[np.float64]:
    """Triangles [bins, m] over mel."""
    return triangles(SAMPLING_RATE, FFT_SIZE, BANDS, MIN_HERTZ, MAX_HERTZ)
