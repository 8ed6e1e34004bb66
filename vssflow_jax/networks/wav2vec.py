"""What wav2vec 2.0 (arXiv 2006.11477), HuBERT and their kin have in common.

Letters: b examples, n samples, t frames, c channels, d width.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import LayerNorm, ones, weight, zeros
from vssflow_jax.networks.layers import (
    Block,
    BlockConfig,
    Conv,
    attend_to_all,
    attend_to_own,
    gelu,
    run_stack,
    stack,
)


@dataclasses.dataclass(frozen=True)
class TrunkConfig:
    """Sizes of the transformer; the defaults are those of the large networks.

    Attributes:
      norm_first: as in `BlockConfig`; the base networks norm last.
    """

    width: int = 1024
    layers: int = 24
    heads: int = 16
    inner_width: int = 4096
    positional_window: int = 128
    positional_groups: int = 16
    epsilon: float = 1e-5
    norm_first: bool = True

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
        self.norm_first = cfg.norm_first
        self.positions = Conv(
            (window,), d, d, rngs=rngs, padding=window // 2, groups=cfg.positional_groups
        )
        self.norm = LayerNorm(d, rngs=rngs, epsilon=cfg.epsilon)
        self.blocks = stack(cfg.layers, lambda rngs: Block(cfg.block, rngs=rngs), rngs)

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
        mix = attend_to_all
        if frames is not None:
            x = without_padding(x, frames)
            mix = attend_to_own(frames)
        # An even window makes one frame too many.
        x = x + gelu(self.positions(x.astype(dtype)))[:, : x.shape[1]]
        x = x if self.norm_first else self.norm(x, jnp.float32)
        x = run_stack(self.blocks, x, lambda block, x: block(x, dtype, mix))
        return self.norm(x, jnp.float32) if self.norm_first else x


def without_padding(x: jax.Array, frames: jax.Array) -> jax.Array:
    """[b, t, ...] with zeros behind the first `frames` [b] of each example."""
    own = jnp.arange(x.shape[1]) < frames[:, None]
    return jnp.where(own.reshape(*own.shape, *(1,) * (x.ndim - 2)), x, 0)
