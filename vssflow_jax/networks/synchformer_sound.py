"""Synchformer's sound side (Iashin et al. 2024, arXiv 2401.16423): what its judge hears.

A spectrogram transformer makes six tokens of each segment of sound; the judge, which reads them
beside those of the picture, is `vssflow_jax.evaluate.networks.synchformer`. Weights: MIT, in the
file of the picture side; `vssflow_jax.networks.convert_synchformer_sound` imports them.

Letters: b segments, t times, f bands, n tokens, d width.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import LayerNorm, weight, zeros
from vssflow_jax.networks.layers import Block, BlockConfig, Conv, run_stack, stack

SAMPLING_RATE = 16_000
_SEGMENT = 10_240  # samples
_WINDOW, _HOP, _FFT = 400, 160, 1024
_LOG_OFFSET = 1e-6
_MEAN, _SPREAD = -4.2677393, 2 * 4.5689974


@dataclasses.dataclass(frozen=True)
class SynchformerSoundConfig:
    """Sizes of the network; the defaults are those of the published weights.

    Attributes:
      bands, times: of the log-mel of a segment.
      patch: side of the patches, which begin every `hop` of it either way.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    inner_width: int = 3072
    bands: int = 128
    times: int = 66
    patch: int = 16
    hop: int = 10

    @property
    def grid(self) -> tuple[int, int]:
        """Patches over the bands, and over time, which are the tokens of a segment."""
        rows, columns = ((size - self.patch) // self.hop + 1 for size in (self.bands, self.times))
        return rows, columns

    def block(self, epsilon: float) -> BlockConfig:
        return BlockConfig(self.width, self.heads, self.inner_width, epsilon=epsilon)


class SynchformerSound(nnx.Module):
    """Log-mels [b, f, t] of segments to float32 [b, tokens, d], one token for each time."""

    def __init__(self, cfg: SynchformerSoundConfig, *, rngs: nnx.Rngs):
        d, (rows, columns) = cfg.width, cfg.grid
        block = cfg.block(1e-12)
        self.grid = cfg.grid
        self.patches = Conv((cfg.patch, cfg.patch), 1, d, rngs=rngs, stride=cfg.hop)
        self.class_token_d = weight(rngs, (d,), ("embed",), zeros)
        self.distilled_token_d = weight(rngs, (d,), ("embed",), zeros)
        self.places_nd = weight(rngs, (2 + rows * columns, d), ("tokens", "embed"), zeros)
        self.blocks = stack(cfg.layers, lambda rngs: Block(block, rngs=rngs), rngs)
        self.norm = LayerNorm(d, rngs=rngs, epsilon=1e-12)
        self.pool_token_d = weight(rngs, (d,), ("embed",), zeros)
        self.pool = Block(cfg.block(1e-6), rngs=rngs)

    def __call__(self, log_mels: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Computes in `dtype`, with a residual stream in float32."""
        patches = self.patches(jnp.asarray(log_mels, dtype)[..., None])  # [b, rows, columns, d]
        b, *_, d = patches.shape
        firsts = jnp.stack([self.class_token_d[...], self.distilled_token_d[...]])
        x = jnp.concatenate(
            [
                jnp.broadcast_to(firsts, (b, 2, d)),
                patches.reshape(b, -1, d).astype(jnp.float32),
            ],
            axis=1,
        )
        x = run_stack(self.blocks, x + self.places_nd, lambda block, x: block(x, dtype))
        x = self.norm(x, jnp.float32)[:, 2:].reshape(b, *self.grid, d).swapaxes(1, 2)
        x = x.reshape(-1, self.grid[0], d)  # the bands of each time
        first = jnp.broadcast_to(self.pool_token_d[...], (len(x), 1, d))
        x = self.pool(jnp.concatenate([first, x], axis=1), dtype)
        return x[:, 0].reshape(b, self.grid[1], d)


# --------------------------------------------------------------------------------- what it hears
def segments(waveform: np.ndarray) -> np.ndarray:
    """Segments [b, 10240] of a waveform [n] at 16 kHz, half of each new; a rest is left out."""
    starts = np.arange(0, len(waveform) - _SEGMENT + 1, _SEGMENT // 2)
    return waveform[starts[:, None] + np.arange(_SEGMENT)]


def log_mels(segments: jax.Array) -> jax.Array:
    """Log-mels of segments [b, 10240] as the network takes them, float32 [b, f, t].

    The last frame is one of zeros, from before they are brought to its range.
    """
    x = jnp.pad(jnp.asarray(segments, jnp.float32), ((0, 0), (_FFT // 2, _FFT // 2)), "reflect")
    starts = _HOP * np.arange(1 + _SEGMENT // _HOP)
    frames = x[:, starts[:, None] + np.arange(_FFT)] * _window()
    power = jnp.abs(jnp.fft.rfft(frames)) ** 2  # [b, t, bins]
    bands = jnp.matmul(power, _filterbank().T, precision=jax.lax.Precision.HIGHEST)
    logs = jnp.pad(jnp.log(bands + _LOG_OFFSET), ((0, 0), (0, 1), (0, 0)))
    return (logs.swapaxes(1, 2) - _MEAN) / _SPREAD


@functools.cache
def _window() -> np.ndarray:
    """A Hann window in the middle of a frame, float32 [1024]."""
    hann = librosa.filters.get_window("hann", _WINDOW, fftbins=True)
    return librosa.util.pad_center(hann, size=_FFT).astype(np.float32)


@functools.cache
def _filterbank() -> np.ndarray:
    """Triangles over HTK's mels, all as high as 1. [f, bins]."""
    return librosa.filters.mel(
        sr=SAMPLING_RATE, n_fft=_FFT, n_mels=SynchformerSoundConfig.bands, htk=True, norm=None
    )
