"""Synchformer's picture side (Iashin et al. 2024, arXiv 2401.16423): what moves, stream `synch`.

A Motionformer with attention divided into time and space, and a layer that makes one token of each
pair of frames. Weights: MIT, `synchformer_state_dict.pth` of MMAudio's release v0.1;
`vssflow_jax.networks.convert_synchformer` imports them.

Letters: b segments, t pairs of frames, s places of a picture, n = 1 + t s tokens, d width, h heads,
k head width.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import LayerNorm, weight, zeros
from vssflow_jax.networks.layers import (
    Attention,
    Block,
    BlockConfig,
    Mix,
    Patches,
    attend_to_all,
    run_stack,
    stack,
)

CHANNELS = 3
HOP = 8  # frames from one segment to the next, at 25 a second
_WHITE = 255.0
_MIDDLE = 0.5  # mean and deviation that pictures are brought to


@dataclasses.dataclass(frozen=True)
class SynchformerConfig:
    """Sizes of the picture side; the defaults are those of the published weights."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    inner_width: int = 3072
    frames: int = 16
    image_size: int = 224
    patch_frames: int = 2
    patch_size: int = 16
    epsilon: float = 1e-6

    @property
    def steps(self) -> int:
        """Tokens in time, t, which are those of the output too."""
        return self.frames // self.patch_frames

    @property
    def places(self) -> int:
        """Tokens of a picture, s."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def block(self) -> BlockConfig:
        return BlockConfig(self.width, self.heads, self.inner_width, epsilon=self.epsilon)


class Synchformer(nnx.Module):
    """Segments as `normalise` makes them [b, frames, h, w, 3] to float32 features [b, t, d]."""

    def __init__(self, cfg: SynchformerConfig, *, rngs: nnx.Rngs):
        d = cfg.width
        window = (cfg.patch_frames, cfg.patch_size, cfg.patch_size)
        self.patches = Patches(window, CHANNELS, d, rngs=rngs)
        self.class_token_d = weight(rngs, (d,), ("embed",), zeros)
        self.places_nd = weight(rngs, (1 + cfg.places, d), ("tokens", "embed"), zeros)
        self.times_td = weight(rngs, (cfg.steps, d), ("tokens", "embed"), zeros)
        self.blocks = stack(cfg.layers, lambda rngs: DividedBlock(cfg, rngs=rngs), rngs)
        self.norm = LayerNorm(d, rngs=rngs, epsilon=cfg.epsilon)
        self.pool_token_d = weight(rngs, (d,), ("embed",), zeros)
        self.pool = Block(cfg.block, rngs=rngs)

    def __call__(self, segments: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Computes in `dtype`, with a residual stream in float32."""
        patches = self.patches(jnp.asarray(segments, dtype))  # [b, t, rows, columns, d]
        b, t, *_, d = patches.shape
        x = patches.reshape(b, t, -1, d).astype(jnp.float32)
        x = x + self.places_nd[1:] + self.times_td[:, None]  # [b, t, s, d]
        x = _behind(self.class_token_d + self.places_nd[0], x.reshape(b, -1, d))
        x = run_stack(self.blocks, x, lambda block, x: block(x, dtype))
        x = self.norm(x[:, 1:], jnp.float32)
        x = _behind(self.pool_token_d[...], x.reshape(b * t, -1, d))
        return self.pool(x, dtype)[:, 0].reshape(b, t, d)


class DividedBlock(nnx.Module):
    """A block whose attention looks along time first, then over space. [b, n, d] -> [b, n, d]."""

    def __init__(self, cfg: SynchformerConfig, *, rngs: nnx.Rngs):
        self.steps = cfg.steps
        self.time_norm = LayerNorm(cfg.width, rngs=rngs, epsilon=cfg.epsilon)
        self.time_attention = Attention(cfg.block, rngs=rngs)
        self.space = Block(cfg.block, rngs=rngs)

    def __call__(self, x: jax.Array, dtype: DTypeLike) -> jax.Array:
        along_time, over_space = _divided(self.steps, time=True), _divided(self.steps, time=False)
        x = x + self.time_attention(self.time_norm(x, dtype), along_time)
        return self.space(x, dtype, over_space)


def _divided(steps: int, *, time: bool) -> Mix:
    """Attention within the tokens of a place (`time`), or else of a time; n = 1 + t s.

    The class token is a key of all groups, and its query sees all tokens.
    """

    def groups(x: jax.Array) -> jax.Array:
        """[b, t s, h, k] -> [b, groups, tokens of a group, h, k]."""
        x = x.reshape(x.shape[0], steps, -1, *x.shape[2:])
        return x.swapaxes(1, 2) if time else x

    def with_class(x: jax.Array) -> jax.Array:
        """Keys or values [b, n, h, k] -> [b groups, 1 + tokens of a group, h, k]."""
        rest = groups(x[:, 1:])
        first = jnp.broadcast_to(x[:, None, :1], (*rest.shape[:2], 1, *rest.shape[3:]))
        whole = jnp.concatenate([first, rest], axis=2)
        return whole.reshape(-1, *whole.shape[2:])

    def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        queries = groups(q[:, 1:])
        mixed = attend_to_all(
            queries.reshape(-1, *queries.shape[2:]), with_class(k), with_class(v)
        ).reshape(queries.shape)
        rest = (mixed.swapaxes(1, 2) if time else mixed).reshape(q[:, 1:].shape)
        return jnp.concatenate([attend_to_all(q[:, :1], k, v), rest], axis=1)

    return mix


def _behind(token: jax.Array, x: jax.Array) -> jax.Array:
    """Tokens [b, n, d] behind one that is the same for all, [d]."""
    first = jnp.broadcast_to(token, (len(x), 1, x.shape[-1]))
    return jnp.concatenate([first, x], axis=1)


def normalise(pictures: np.ndarray | jax.Array) -> jax.Array:
    """Pictures [..., h, w, 3] of 0 to 255 as the network takes them, float32 in [-1, 1]."""
    return (jnp.asarray(pictures, jnp.float32) / _WHITE - _MIDDLE) / _MIDDLE


def segments(pictures: np.ndarray, frames: int = SynchformerConfig.frames) -> np.ndarray:
    """Pictures [frames of a video, ...] in overlapping segments [b, frames, ...], from the start.

    What does not fill a segment at the end is left out.
    """
    starts = HOP * np.arange(count_segments(len(pictures), frames))
    return pictures[starts[:, None] + np.arange(frames)]


def count_segments(pictures: int, frames: int = SynchformerConfig.frames) -> int:
    """Segments of so many pictures."""
    return max((pictures - frames) // HOP + 1, 0)
