"""PANNs' Cnn14 at 16 kHz (Kong et al. 2020, arXiv 1912.10211), a classifier of 527 sounds.

Source: `Cnn14` of av-benchmark (`av_bench/panns/models.py`). The transforms of its front end are
tensors of the file too, and are taken from there: what is of another sampling rate does not fit.

Letters: b sounds, n samples, t frames, m mel bands, c channels.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from vssflow_jax.evaluate.networks.files import AUDIOSET_CLASSES, Cache
from vssflow_jax.evaluate.networks.layers import (
    Shapes,
    Weights,
    batch_norm,
    convolution,
    halves,
    linear,
    read_weights,
)

PUBLISHED = "PANNs' Cnn14 at 16 kHz (Cnn14_16k_mAP=0.438.pth)"
WINDOW = 512
HOP = 160
BANDS = 64
CLASSES = AUDIOSET_CLASSES
CHANNELS = (64, 128, 256, 512, 1024, 2048)  # of the blocks
WIDTH = CHANNELS[-1]  # of the features

_FILE = "pann_features.pth"
FEATURES = Cache("panns", "features", (WIDTH,), _FILE, f"{WIDTH}")
LOGITS = Cache("panns", "logits", (CLASSES,), _FILE, "logits")

_MIN_POWER = 1e-10
_MIN_FRAMES = 2 ** (len(CHANNELS) - 1)  # All blocks but the last halve the time.
MIN_SAMPLES = (_MIN_FRAMES - 1) * HOP

_REAL, _IMAGINARY = (f"spectrogram_extractor.stft.conv_{part}.weight" for part in ("real", "imag"))
_MEL = "logmel_extractor.melW"


def load(path: Path) -> Weights:
    """The weights of a file.

    Raises:
      UserError: the file is not whole, or of another network.
    """
    return read_weights(path, PUBLISHED, shapes(), ignored=("*.num_batches_tracked",))


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


def forward(weights: Weights, waveforms: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Features [b, c] and logits [b, 527] of waveforms [b, n] at 16 kHz."""
    log_mels = jax.vmap(functools.partial(log_mel, weights))(waveforms)
    x = batch_norm(weights, "bn0", log_mels)[..., None]  # [b, t, m, 1]
    for number in range(1, len(CHANNELS) + 1):
        for layer in (1, 2):
            name = f"conv_block{number}"
            x = convolution(weights[f"{name}.conv{layer}.weight"], x)
            x = jax.nn.relu(batch_norm(weights, f"{name}.bn{layer}", x))
        if number < len(CHANNELS):
            x = halves(x).mean(axis=(2, 4))
    steps = x.mean(axis=2)  # [b, t, c]
    features = jax.nn.relu(linear(weights, "fc1", steps.max(axis=1) + steps.mean(axis=1)))
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
