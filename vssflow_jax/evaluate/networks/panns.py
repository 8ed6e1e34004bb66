"""PANNs' Cnn14 at 16 kHz (Kong et al. 2020, arXiv 1912.10211), a classifier of 527 sounds.

Source: `Cnn14` of av-benchmark (`av_bench/panns/models.py`). The transforms of its front end are
tensors of the file too, and are taken from there: what is of another sampling rate does not fit.

Letters: n samples, t frames, m mel bands, c channels.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from numpy.typing import NDArray
from scipy.special import expit

from vssflow_jax.evaluate.networks.files import AUDIOSET_CLASSES, Cache, Features, Network
from vssflow_jax.evaluate.networks.layers import (
    Shapes,
    Weights,
    batch_norm,
    convolution,
    halves,
    linear,
    read_weights,
)
from vssflow_jax.utils.errors import UserError

PUBLISHED = "PANNs' Cnn14 at 16 kHz (Cnn14_16k_mAP=0.438.pth)"
WINDOW = 512
HOP = 160
BANDS = 64
CLASSES = AUDIOSET_CLASSES
CHANNELS = (64, 128, 256, 512, 1024, 2048)  # of the blocks
WIDTH = CHANNELS[-1]  # of the features

_CACHE = functools.partial(Cache, "pann_features.pth", network="panns")
FEATURES = _CACHE((WIDTH,), f"{WIDTH}")
LOGITS = _CACHE((CLASSES,), "logits")
PROBABILITIES = _CACHE((CLASSES,), "clipwise_output")

_MIN_POWER = 1e-10
_MIN_FRAMES = 2 ** (len(CHANNELS) - 1)  # All blocks but the last halve the time.
MIN_SAMPLES = (_MIN_FRAMES - 1) * HOP

_REAL, _IMAGINARY = (f"spectrogram_extractor.stft.conv_{part}.weight" for part in ("real", "imag"))
_MEL = "logmel_extractor.melW"


def load(path: Path) -> Network:
    """The network with the weights of a file.

    Raises:
      UserError: the file is not whole, or of another network.
    """
    weights = read_weights(path, PUBLISHED, shapes(), ignored=("*.num_batches_tracked",))
    apply = jax.jit(forward)

    def network(waveform: NDArray[np.float32]) -> Features:
        if len(waveform) < MIN_SAMPLES:
            raise UserError(f"PANNs: {len(waveform)} samples at 16 kHz, at least {MIN_SAMPLES}")
        features, logits = jax.device_get(apply(weights, waveform))
        return {FEATURES: features, LOGITS: logits, PROBABILITIES: expit(logits)}

    return network


def shapes(channels: Sequence[int] = CHANNELS) -> Shapes:
    """Of all tensors of a file."""
    bins, width = WINDOW // 2 + 1, channels[-1]
    found: dict[str, tuple[int, ...]] = {
        _REAL: (bins, 1, WINDOW),
        _IMAGINARY: (bins, 1, WINDOW),
        _MEL: (bins, BANDS),
        **_batch_norm_shapes("bn0", BANDS),
        "fc1.weight": (width, width),
        "fc1.bias": (width,),
        "fc_audioset.weight": (CLASSES, width),
        "fc_audioset.bias": (CLASSES,),
    }
    for number, (inner, outer) in enumerate(zip((1, *channels), channels, strict=False), start=1):
        for layer, width_in in ((1, inner), (2, outer)):
            found[f"conv_block{number}.conv{layer}.weight"] = (outer, width_in, 3, 3)
            found |= _batch_norm_shapes(f"conv_block{number}.bn{layer}", outer)
    return found


def forward(weights: Weights, waveform: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Features [c] and logits [527] of a waveform [n] at 16 kHz."""
    x = batch_norm(weights, "bn0", log_mel(weights, waveform))[None, :, :, None]  # [1, t, m, 1]
    for number in range(1, len(CHANNELS) + 1):
        for layer in (1, 2):
            name = f"conv_block{number}"
            x = convolution(weights[f"{name}.conv{layer}.weight"], x)
            x = jax.nn.relu(batch_norm(weights, f"{name}.bn{layer}", x))
        if number < len(CHANNELS):
            x = halves(x).mean(axis=(2, 4))
    steps = x[0].mean(axis=1)  # [t, c]
    features = jax.nn.relu(linear(weights, "fc1", steps.max(axis=0) + steps.mean(axis=0)))
    return features, linear(weights, "fc_audioset", features)


def log_mel(weights: Weights, waveform: jax.Array) -> jax.Array:
    """Mel power in dB [t, m] of a waveform [n], frames centred, the ends reflected."""
    padded = jnp.pad(waveform, WINDOW // 2, mode="reflect")
    starts = np.arange(1 + (len(padded) - WINDOW) // HOP) * HOP
    frames = padded[starts[:, None] + np.arange(WINDOW)]
    parts = [
        jnp.matmul(frames, weights[name][:, 0].T, precision=Precision.HIGHEST)
        for name in (_REAL, _IMAGINARY)
    ]
    power = parts[0] ** 2 + parts[1] ** 2
    mel = jnp.matmul(power, weights[_MEL], precision=Precision.HIGHEST)
    return 10 * jnp.log10(jnp.maximum(mel, _MIN_POWER))


def _batch_norm_shapes(name: str, channels: int) -> Shapes:
    return {f"{name}.{x}": (channels,) for x in ("weight", "bias", "running_mean", "running_var")}
