"""What wav2vec 2.0 (arXiv 2006.11477), HuBERT and their kin have in common.

WavLM (arXiv 2110.13900) is one of them, with a bias by distance in its attention.

Letters: b examples, n samples, t frames, c channels, d width, h heads, k head width, l layers,
r buckets of distances.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from numpy.typing import NDArray

from vssflow_jax.models.layers import LayerNorm, Linear, ones, weight, zeros
from vssflow_jax.networks.layers import (
    Attention,
    Block,
    BlockConfig,
    Conv,
    Mix,
    attend_to_all,
    attend_to_own,
    gelu,
    run_stack,
    stack,
    trace_stack,
)


@dataclasses.dataclass(frozen=True)
class TrunkConfig:
    """Sizes of the transformer; the defaults are those of the large networks.

    Attributes:
      norm_first: as in `BlockConfig`; the base networks norm last.
      buckets: r, of the distances between queries and keys, each with a bias of its own, as WavLM
        has them; 0: no bias.
      max_distance: in frames; from it on all are in one bucket.
    """

    width: int = 1024
    layers: int = 24
    heads: int = 16
    inner_width: int = 4096
    positional_window: int = 128
    positional_groups: int = 16
    epsilon: float = 1e-5
    norm_first: bool = True
    buckets: int = 0
    max_distance: int = 800

    @property
    def block(self) -> BlockConfig:
        return BlockConfig(
            self.width,
            self.heads,
            self.inner_width,
            epsilon=self.epsilon,
            norm_first=self.norm_first,
        )


# Of the convolutions that make frames of samples.
WINDOWS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)


LEAST_SAMPLES = 400
"""Of which the convolutions make a frame."""


def frames_of(samples: jax.Array) -> jax.Array:
    """Frames that the convolutions make of so many samples."""
    for window, stride in zip(WINDOWS, STRIDES, strict=True):
        samples = (samples - window) // stride + 1
    return samples


class FeatureExtractor(nnx.Module):
    """Frames of samples, 50 a second of 16 kHz, by convolutions. [b, n] -> [b, t, c].

    The channels of the first one are normed over time, as the base networks do.
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs, epsilon: float = 1e-5):
        self.epsilon = epsilon
        self.convs = nnx.List(
            Conv((window,), before, channels, rngs=rngs, stride=stride, bias=False)
            for window, stride, before in zip(
                WINDOWS, STRIDES, (1, *(channels,) * (len(WINDOWS) - 1)), strict=True
            )
        )
        self.scale_d = weight(rngs, (channels,), ("norm",), ones)
        self.bias_d = weight(rngs, (channels,), ("norm",), zeros)

    def __call__(
        self, waveforms: jax.Array, dtype: DTypeLike, samples: jax.Array | None = None
    ) -> jax.Array:
        """Computes in `dtype`; `samples` [b] are those of each waveform, if they differ."""
        first, *others = self.convs
        x = first(waveforms[..., None].astype(dtype)).astype(jnp.float32)
        frames = None if samples is None else (samples - WINDOWS[0]) // STRIDES[0] + 1
        x = gelu(self._normed(x, frames)).astype(dtype)
        for conv in others:
            x = gelu(conv(x))
        return x

    def _normed(self, x: jax.Array, frames: jax.Array | None) -> jax.Array:
        """[b, t, c] of which the first `frames` count."""
        own = jnp.arange(x.shape[1]) < (x.shape[1] if frames is None else frames[:, None])
        counts = jnp.broadcast_to(own, x.shape[:2])[..., None]
        mean = jnp.mean(x, axis=1, keepdims=True, where=counts)
        variance = jnp.mean((x - mean) ** 2, axis=1, keepdims=True, where=counts)
        return (x - mean) * jax.lax.rsqrt(variance + self.epsilon) * self.scale_d + self.bias_d


class Trunk(nnx.Module):
    """Positions by a convolution, then blocks. float32 [b, t, d] -> [b, t, d]."""

    def __init__(self, cfg: TrunkConfig, *, rngs: nnx.Rngs):
        d, window = cfg.width, cfg.positional_window
        self.norm_first, self.max_distance = cfg.norm_first, cfg.max_distance
        self.positions = Conv(
            (window,), d, d, rngs=rngs, padding=window // 2, groups=cfg.positional_groups
        )
        self.norm = LayerNorm(d, rngs=rngs, epsilon=cfg.epsilon)
        by_distance = (cfg.buckets, cfg.heads), ("buckets", "heads")
        self.bias_rh = weight(rngs, *by_distance, zeros) if cfg.buckets else None
        attention = GatedAttention if cfg.buckets else Attention
        self.blocks = stack(
            cfg.layers, lambda rngs: Block(cfg.block, rngs=rngs, attention=attention), rngs
        )

    def __call__(
        self, x: jax.Array, dtype: DTypeLike = jnp.float32, frames: jax.Array | None = None
    ) -> jax.Array:
        """Computes in `dtype`, with a residual stream in float32.

        Args:
          x: what goes in.
          dtype: of the branches.
          frames: int32 [b], how many frames each example has; the rest is padding, of which those
            frames know nothing. None: all are full.
        """
        x, step = self._begin(x, dtype, frames)
        x = run_stack(self.blocks, x, step)
        return self.norm(x, jnp.float32) if self.norm_first else x

    def trace(
        self,
        x: jax.Array,
        look: Callable[[jax.Array], jax.Array],
        dtype: DTypeLike = jnp.float32,
        frames: jax.Array | None = None,
    ) -> jax.Array:
        """What `look` sees before the first block and after each; see `__call__`.

        Args:
          x: what goes in.
          look: of the residual stream [b, t, d].
          dtype: of the branches.
          frames: of each example.

        Returns:
          It all, [l + 1, ...].
        """
        x, step = self._begin(x, dtype, frames)
        _, seen = trace_stack(self.blocks, x, step, look)
        return jnp.concatenate([look(x)[None], seen])

    def _begin(
        self, x: jax.Array, dtype: DTypeLike, frames: jax.Array | None
    ) -> tuple[jax.Array, Callable[[Any, jax.Array], jax.Array]]:
        """What the first block is given, and how each makes of x another."""
        x = x if frames is None else without_padding(x, frames)
        mix = self._mix(x.shape[1], frames)
        # An even window makes one frame too many.
        x = x + gelu(self.positions(x.astype(dtype)))[:, : x.shape[1]]
        x = x if self.norm_first else self.norm(x, jnp.float32)
        return x, lambda block, x: block(x, dtype, mix)

    def _mix(self, t: int, frames: jax.Array | None) -> Mix:
        if self.bias_rh is not None:
            buckets = buckets_of_distances(t, len(self.bias_rh), self.max_distance)
            bias = jnp.moveaxis(self.bias_rh[...][buckets], -1, 0)  # [h, t, t]
            return lambda q, k, v, gate: jax.nn.dot_product_attention(
                q, k, v, bias=gate * bias, key_value_seq_lengths=frames
            )
        return attend_to_all if frames is None else attend_to_own(frames)


_GATES, _SUMMED = 2, 4  # of each query, and numbers that each of them is the sum of


class GatedAttention(Attention):
    """WavLM's: of a bias by distance, each query takes as much as its gates let through."""

    def __init__(self, cfg: BlockConfig, *, rngs: nnx.Rngs):
        super().__init__(cfg, rngs=rngs)
        h, k = cfg.heads_shape
        self.gates = Linear((k, _GATES * _SUMMED), ("head_dim", "gates"), rngs=rngs, bias=True)
        self.scale_h = weight(rngs, (h,), ("heads",), ones)

    def read(self, x: jax.Array) -> tuple[jax.Array, ...]:
        """What is mixed: queries, keys and values, and what to multiply a bias by, [b, h, t, 1]."""
        by_head = x.reshape(*x.shape[:2], len(self.scale_h), -1)  # [b, t, h, k]
        parts = self.gates(by_head).astype(jnp.float32)
        gates = jnp.sum(parts.reshape(*parts.shape[:-1], _GATES, _SUMMED), axis=-1)
        update, reset = jnp.moveaxis(jax.nn.sigmoid(gates), -1, 0)  # [b, t, h]
        factor = update * (reset * self.scale_h - 1) + 2
        return *super().read(x), factor.swapaxes(1, 2)[..., None]


def buckets_of_distances(frames: int, buckets: int, max_distance: int) -> NDArray[np.int64]:
    """The bucket of each key's distance from each query, [query, key].

    The upper half of the buckets is for keys that come after the query. Of each half, half are for
    one distance, the others for those up to `max_distance` in logarithmic steps.
    """
    ahead = np.arange(frames) - np.arange(frames)[:, None]
    distance, half = np.abs(ahead), buckets // 2
    single = half // 2
    steps = np.log(np.maximum(distance, single) / single) / np.log(max_distance / single)
    far = np.minimum(single + (steps * (half - single)).astype(int), half - 1)
    return np.where(distance < single, distance, far) + half * (ahead > 0)


@dataclasses.dataclass(frozen=True)
class Wav2VecConfig(TrunkConfig):
    """Sizes of a network with its convolutions; the defaults are those of the base networks.

    Attributes:
      channels: c, of the convolutions that make frames of samples.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    inner_width: int = 3072
    norm_first: bool = False
    channels: int = 512


class Wav2Vec(nnx.Module):
    """Convolutions and transformer, for networks that add heads of their own."""

    def __init__(self, cfg: Wav2VecConfig, *, rngs: nnx.Rngs):
        c = cfg.channels
        self.extractor = FeatureExtractor(c, rngs=rngs)
        self.norm = LayerNorm(c, rngs=rngs, epsilon=cfg.epsilon)
        self.project = Linear((c, cfg.width), ("embed_in", "embed"), rngs=rngs, bias=True)
        self.trunk = Trunk(cfg, rngs=rngs)

    def embed(
        self, waveforms: jax.Array, dtype: DTypeLike, samples: jax.Array | None = None
    ) -> jax.Array:
        """Frames for the transformer, float32 [b, t, d], of waveforms at 16 kHz in [-1, 1], [b, n].

        Computes in `dtype`; `samples` [b] are those of each waveform, if they differ.
        """
        frames = self.extractor(jnp.asarray(waveforms, jnp.float32), dtype, samples)
        return self.project(self.norm(frames, dtype)).astype(jnp.float32)


def without_padding(x: jax.Array, frames: jax.Array) -> jax.Array:
    """[b, t, ...] with zeros behind the first `frames` [b] of each example."""
    own = jnp.arange(x.shape[1]) < frames[:, None]
    return jnp.where(own.reshape(*own.shape, *(1,) * (x.ndim - 2)), x, 0)
