"""PaSST (Koutini et al. 2022, arXiv 2110.05069): which of AudioSet's 527 kinds of sound it hears.

A spectrogram transformer, as the package hear21passt has it and av-benchmark asks it. Weights:
Apache-2.0, `passt-s-f128-p16-s10-ap.476-swa.pt` of its owner; `vssflow_jax.networks.convert_passt`
imports them.

Letters: b sounds, n samples or tokens, t times, m mel bands, d width, c classes.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from numpy.typing import NDArray

from vssflow_jax.audio.mel_bank import triangles
from vssflow_jax.models.layers import LayerNorm, Linear, weight, zeros
from vssflow_jax.networks.layers import Block, BlockConfig, Conv, run_stack, stack

SAMPLING_RATE = 32_000
SAMPLES = 10 * SAMPLING_RATE  # that it hears at once
_WINDOW, _HOP, _FFT = 800, 320, 1024
_HIGHEST_HERTZ = 15_000.0
_PRE_EMPHASIS = 0.97
_LOG_OFFSET = 1e-5
_MEAN, _SPREAD = -4.5, 5.0
_EPSILON = 1e-6  # of all norms but that of the head


@dataclasses.dataclass(frozen=True)
class PaSSTConfig:
    """Sizes of the network; the defaults are those of the published weights.

    Attributes:
      bands, times: of the log-mel of a sound.
      patch: side of the patches, which begin every `hop` of it either way.
      classes: c.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    inner_width: int = 3072
    bands: int = 128
    times: int = 1000
    patch: int = 16
    hop: int = 10
    classes: int = 527

    @property
    def grid(self) -> tuple[int, int]:
        """Patches over the bands, and over time."""
        rows, columns = ((size - self.patch) // self.hop + 1 for size in (self.bands, self.times))
        return rows, columns

    @property
    def block(self) -> BlockConfig:
        return BlockConfig(self.width, self.heads, self.inner_width, epsilon=_EPSILON)


class PaSST(nnx.Module):
    """Log-mels [b, t, m] of sounds to logits of classes [b, c] and features [b, d], float32."""

    def __init__(self, cfg: PaSSTConfig, *, rngs: nnx.Rngs):
        d, (rows, columns), axes = cfg.width, cfg.grid, ("tokens", "embed")
        self.patches = Conv((cfg.patch, cfg.patch), 1, d, rngs=rngs, stride=cfg.hop)
        self.band_places_nd = weight(rngs, (rows, d), axes, zeros)
        self.time_places_nd = weight(rngs, (columns, d), axes, zeros)
        # The class token and the distillation token, in their places.
        self.firsts_nd = weight(rngs, (2, d), axes, zeros)
        self.blocks = stack(cfg.layers, lambda rngs: Block(cfg.block, rngs=rngs), rngs)
        self.norm = LayerNorm(d, rngs=rngs, epsilon=_EPSILON)
        self.head_norm = LayerNorm(d, rngs=rngs)
        self.head = Linear((d, cfg.classes), ("embed_in", "embed"), rngs=rngs, bias=True)

    def __call__(
        self, log_mels: jax.Array, dtype: DTypeLike = jnp.float32
    ) -> tuple[jax.Array, jax.Array]:
        """Computes in `dtype`, with a residual stream and a head in float32."""
        pictures = jnp.asarray(log_mels, dtype).swapaxes(1, 2)[..., None]
        patches = self.patches(pictures).astype(jnp.float32)  # [b, rows, columns, d]
        patches = patches + self.band_places_nd[...][:, None] + self.time_places_nd
        b, *_, d = patches.shape
        firsts = jnp.broadcast_to(self.firsts_nd[...], (b, 2, d))
        x = jnp.concatenate([firsts, patches.reshape(b, -1, d)], axis=1)
        x = run_stack(self.blocks, x, lambda block, x: block(x, dtype))
        features = jnp.mean(self.norm(x[:, :2], jnp.float32), axis=1)
        return self.head(self.head_norm(features, jnp.float32)), features


# --------------------------------------------------------------------------------- what it hears
def log_mels(waveforms: NDArray[np.floating]) -> NDArray[np.float32]:
    """Log-mels of sounds as the network takes them, float32 [b, 1000, 128].

    They are computed in float64: what little there is beside a loud tone drowns in the rounding of
    float32, and the logarithm shows it.

    Args:
      waveforms: at 32 kHz in [-1, 1], [b, n]; what lies behind 10 s is left out, and zeros stand
        for what is missing of them.
    """
    x = np.asarray(waveforms, np.float64)[:, :SAMPLES]
    x = np.pad(x, ((0, 0), (0, SAMPLES - x.shape[1])))
    x = x[:, 1:] - _PRE_EMPHASIS * x[:, :-1]
    x = np.pad(x, ((0, 0), (_FFT // 2, _FFT // 2)), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(x, _FFT, axis=1)[:, ::_HOP]
    power = np.abs(np.fft.rfft(frames * _window())) ** 2  # [b, t, bins]
    logs = np.log(power @ _filterbank() + _LOG_OFFSET)
    return ((logs - _MEAN) / _SPREAD).astype(np.float32)


@functools.cache
def _window() -> NDArray[np.float64]:
    """A symmetric Hann window in the middle of a frame, [1024]."""
    hann = librosa.filters.get_window("hann", _WINDOW, fftbins=False)
    return librosa.util.pad_center(hann, size=_FFT)


@functools.cache
def _filterbank() -> NDArray[np.float64]:
    """Kaldi's, [bins, m]."""
    return triangles(SAMPLING_RATE, _FFT, PaSSTConfig.bands, 0.0, _HIGHEST_HERTZ)
