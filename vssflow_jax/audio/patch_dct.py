"""Codecs: between a log-mel and the latent that the flow models.

A codec is a pair of pure functions of its parameters, `encode(params, log_mel)` and
`decode(params, latent)`. Here: an orthonormal transform of mel patches, whose only parameters are
statistics of the data. `vssflow_jax.audio.codec` has it and the learned one behind one interface.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import dct

from vssflow_jax.audio import mel
from vssflow_jax.clip import LATENT_CHANNELS

PATCH_FRAMES = 4
CEPSTRA = LATENT_CHANNELS // PATCH_FRAMES
# 0 scales all channels alike, 1 gives each unit variance. In between, the channels that carry
# little of the sound (fine cepstra) also carry little of the loss.
WHITENING = 0.5
MIN_DEVIATION = 1e-6  # of a coefficient that hardly varies


class LatentStats(NamedTuple):
    """What is taken away from each coefficient and what it is divided by, both float32 [c]."""

    mean: Any
    scale: Any


@functools.cache
def _basis() -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal DCT-II rows: over the frames of a patch [4, 4], over the mel bands [32, 64]."""
    over_frames = dct(np.eye(PATCH_FRAMES), norm="ortho", axis=0)
    over_bands = dct(np.eye(mel.BANDS), norm="ortho", axis=0)[:CEPSTRA]
    return over_frames.astype(np.float32), over_bands.astype(np.float32)


def _patch_dct(log_mel: jax.Array) -> jax.Array:
    """Coefficients of each 4 x 64 patch, the 32 lowest cepstra kept. [b, 4 t, m] -> [b, t, c]."""
    over_frames, over_bands = _basis()
    batch, frames, bands = log_mel.shape
    patches = log_mel.reshape(batch, frames // PATCH_FRAMES, PATCH_FRAMES, bands)
    coefficients = jnp.einsum(
        "btim,ji,qm->btjq", patches, over_frames, over_bands, precision=jax.lax.Precision.HIGHEST
    )
    return coefficients.reshape(batch, -1, LATENT_CHANNELS)


def _inverse_patch_dct(coefficients: jax.Array) -> jax.Array:
    """The transpose of `_patch_dct`. [b, t, c] -> [b, 4 t, m]."""
    over_frames, over_bands = _basis()
    batch, frames, _ = coefficients.shape
    blocks = coefficients.reshape(batch, frames, PATCH_FRAMES, CEPSTRA)
    patches = jnp.einsum(
        "btjq,ji,qm->btim", blocks, over_frames, over_bands, precision=jax.lax.Precision.HIGHEST
    )
    return patches.reshape(batch, frames * PATCH_FRAMES, mel.BANDS)


def fit(log_mel: np.ndarray) -> LatentStats:
    """Statistics of the training sounds, for latents of overall unit variance.

    Args:
      log_mel: float32 [b, 4 t, m], a representative sample of clips.
    """
    coefficients = np.asarray(_patch_dct(jnp.asarray(log_mel)), np.float64)
    deviation = np.maximum(coefficients.std(axis=(0, 1)), MIN_DEVIATION)  # [c]
    scale = deviation**WHITENING
    overall = np.sqrt(np.mean((deviation / scale) ** 2))
    mean = coefficients.mean(axis=(0, 1))
    return LatentStats(mean.astype(np.float32), (scale * overall).astype(np.float32))


def encode(params: LatentStats, log_mel: jax.Array) -> jax.Array:
    """Latent of a log-mel. [b, 4 t, m] -> [b, t, c]."""
    return (_patch_dct(log_mel) - params.mean) / params.scale


def decode(params: LatentStats, latent: jax.Array) -> jax.Array:
    """Log-mel of a latent: exact but for the dropped cepstra. [b, t, c] -> [b, 4 t, m]."""
    return _inverse_patch_dct(latent * params.scale + params.mean)
