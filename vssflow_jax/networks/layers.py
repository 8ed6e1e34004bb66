"""What frozen networks are made of: transformer blocks, convolutions, norms of kept statistics.

The residual stream is float32; branches compute in the dtype that they are given. Weights are whole
on every device: their axes are names only. Maps have channels last.

Letters: b examples, n tokens, d width, h heads, k head width, f feed-forward width, l layers,
x axes of a window, i and o channels in and out.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import LayerNorm, Linear, fan_in_of, ones, weight, zeros

Module = TypeVar("Module", bound=nnx.Module)

# What an attention reads, q, k and v [b, n, h, k] before all, -> [b, n, h, k]
Mix = Callable[..., jax.Array]

attend_to_all: Mix = jax.nn.dot_product_attention


def attend_to_own(tokens: jax.Array) -> Mix:
    """To the first tokens [b] of each example; the others are padding."""
    return lambda q, k, v: jax.nn.dot_product_attention(q, k, v, key_value_seq_lengths=tokens)


_QUICK_GELU_SLOPE = 1.702


def gelu(x: jax.Array) -> jax.Array:
    """By the normal distribution itself, not by the approximation with tanh."""
    return jax.nn.gelu(x, approximate=False)


def quick_gelu(x: jax.Array) -> jax.Array:
    """The approximation that CLIP was trained with."""
    return x * jax.nn.sigmoid(_QUICK_GELU_SLOPE * x)


ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "quick_gelu": quick_gelu,
    "relu": jax.nn.relu,
}


# --------------------------------------------------------------------------- transformer blocks
@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """Sizes and habits of a transformer block.

    Attributes:
      width: d.
      heads: h, a divisor of d.
      inner_width: f.
      activation: key of `ACTIVATIONS`.
      epsilon: of both norms.
      biased: which of the maps to queries, keys and values, "q", "k" and "v", have a bias.
      norm_first: whether a branch norms what it reads, or the sum that it adds to.
    """

    width: int
    heads: int
    inner_width: int
    activation: str = "gelu"
    epsilon: float = 1e-5
    biased: str = "qkv"
    norm_first: bool = True

    @property
    def heads_shape(self) -> tuple[int, int]:
        """h, and k of each."""
        return self.heads, self.width // self.heads


class IntoHeads(nnx.Module):
    """Queries, keys or values, in the dtype of x. [b, n, d] -> [b, n, h, k]."""

    def __init__(self, cfg: BlockConfig, *, rngs: nnx.Rngs, bias: bool):
        shape, axes = (cfg.width, *cfg.heads_shape), ("embed", "heads", "head_dim")
        self.w_dhk = weight(rngs, shape, axes)
        self.b_hk = weight(rngs, shape[1:], axes[1:], zeros) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jnp.tensordot(x, self.w_dhk.astype(x.dtype), axes=1)
        return y if self.b_hk is None else y + self.b_hk.astype(x.dtype)


class FromHeads(nnx.Module):
    """What heads have found, summed, in the dtype of x. [b, n, h, k] -> [b, n, d]."""

    def __init__(self, cfg: BlockConfig, *, rngs: nnx.Rngs):
        shape, axes = (*cfg.heads_shape, cfg.width), ("heads", "head_dim", "embed")
        self.w_hkd = weight(rngs, shape, axes, fan_in_of(2))
        self.b_d = weight(rngs, shape[2:], axes[2:], zeros)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jnp.tensordot(x, self.w_hkd.astype(x.dtype), axes=2)
        return y + self.b_d.astype(x.dtype)


class Attention(nnx.Module):
    """Self-attention: which tokens see which is up to `mix`. [b, n, d] -> [b, n, d]."""

    def __init__(self, cfg: BlockConfig, *, rngs: nnx.Rngs):
        self.q, self.k, self.v = (
            IntoHeads(cfg, rngs=rngs, bias=name in cfg.biased) for name in "qkv"
        )
        self.out = FromHeads(cfg, rngs=rngs)

    def __call__(self, x: jax.Array, mix: Mix = attend_to_all) -> jax.Array:
        return self.out(mix(*self.read(x)))

    def read(self, x: jax.Array) -> tuple[jax.Array, ...]:
        """What is mixed: queries, keys and values."""
        return self.q(x), self.k(x), self.v(x)


class FeedForward(nnx.Module):
    """Two maps with an activation between them. [..., d] -> [..., d]."""

    def __init__(self, cfg: BlockConfig, *, rngs: nnx.Rngs):
        d, f = cfg.width, cfg.inner_width
        self.activation = cfg.activation
        self.inner = Linear((d, f), ("embed", "ffw"), rngs=rngs, bias=True)
        self.outer = Linear((f, d), ("ffw", "embed"), rngs=rngs, bias=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(ACTIVATIONS[self.activation](self.inner(x)))


class Block(nnx.Module):
    """Attention, of a class that may be chosen, and feed-forward; a residual around each."""

    def __init__(self, cfg: BlockConfig, *, rngs: nnx.Rngs, attention: type[Attention] = Attention):
        self.norm_first = cfg.norm_first
        self.norm1 = LayerNorm(cfg.width, rngs=rngs, epsilon=cfg.epsilon)
        self.attention = attention(cfg, rngs=rngs)
        self.norm2 = LayerNorm(cfg.width, rngs=rngs, epsilon=cfg.epsilon)
        self.ffw = FeedForward(cfg, rngs=rngs)

    def __call__(self, x: jax.Array, dtype: DTypeLike, mix: Mix = attend_to_all) -> jax.Array:
        """float32 [b, n, d] -> [b, n, d]; the branches compute in `dtype`."""
        if self.norm_first:
            x = x + self.attention(self.norm1(x, dtype), mix)
            return x + self.ffw(self.norm2(x, dtype))
        x = self.norm1(x + self.attention(x.astype(dtype), mix), jnp.float32)
        return self.norm2(x + self.ffw(x.astype(dtype)), jnp.float32)


def stack(layers: int, make: Callable[[nnx.Rngs], Module], rngs: nnx.Rngs) -> Module:
    """Blocks of the same sizes as one, each weight with an axis l in front."""

    @nnx.split_rngs(splits=layers)
    @nnx.vmap(transform_metadata={nnx.PARTITION_NAME: "layers"})
    def stacked(rngs: nnx.Rngs) -> Module:
        return make(rngs)

    return stacked(rngs)


def run_stack(
    blocks: nnx.Module, x: jax.Array, step: Callable[[nnx.Module, jax.Array], jax.Array]
) -> jax.Array:
    """x after `step` with each of the stacked blocks in turn, which are compiled once."""
    return trace_stack(blocks, x, step, lambda x: None)[0]


def trace_stack(
    blocks: nnx.Module,
    x: jax.Array,
    step: Callable[[nnx.Module, jax.Array], jax.Array],
    look: Callable[[jax.Array], Any],
) -> tuple[jax.Array, Any]:
    """As `run_stack`, and what `look` sees of x after each block, with an axis l in front."""
    definition, stacked = nnx.split(blocks)

    def run(x: jax.Array, weights: nnx.State) -> tuple[jax.Array, Any]:
        x = step(nnx.merge(definition, weights), x)
        return x, look(x)

    return jax.lax.scan(run, x, stacked)


# --------------------------------------------------------------------------------- convolutions
class Conv(nnx.Module):
    """Convolution over the axes x of a window, in the dtype of what comes in.

    [b, *x, i] -> [b, *x, o], each x as long as strides, padding and dilation make it. The padding
    is that of all axes, or one for each.
    """

    def __init__(
        self,
        window: Sequence[int],
        channels_in: int,
        channels_out: int,
        *,
        rngs: nnx.Rngs,
        stride: int = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.padding = _each(padding, len(window))
        shape = (*window, channels_in // groups, channels_out)
        axes = (*["window"] * len(window), "channel", "embed")
        self.w_xio = weight(rngs, shape, axes, fan_in_of(len(window) + 1))
        self.b_o = weight(rngs, (channels_out,), ("embed",), zeros) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        axes = x.ndim - 2
        names = "DHW"[-axes:]
        y = jax.lax.conv_general_dilated(
            x,
            self.w_xio.astype(x.dtype),
            window_strides=(self.stride,) * axes,
            padding=[(size, size) for size in self.padding],
            rhs_dilation=(self.dilation,) * axes,
            dimension_numbers=(f"N{names}C", f"{names}IO", f"N{names}C"),
            feature_group_count=self.groups,
        )
        return y if self.b_o is None else y + self.b_o.astype(x.dtype)


class Patches(nnx.Module):
    """Convolution whose windows lie side by side: a linear map of each patch.

    [b, *x, i] -> [b, *(x // window), o].
    """

    def __init__(
        self,
        window: Sequence[int],
        channels_in: int,
        channels_out: int,
        *,
        rngs: nnx.Rngs,
        bias: bool = True,
    ):
        self.window = tuple(window)
        shape = (*window, channels_in, channels_out)
        axes = (*["window"] * len(window), "channel", "embed")
        self.w_xio = weight(rngs, shape, axes, fan_in_of(len(window) + 1))
        self.b_o = weight(rngs, (channels_out,), ("embed",), zeros) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        b, *sizes, i = x.shape
        axes = len(sizes)
        split = [part for pair in zip(sizes, self.window, strict=True) for part in _parts(*pair)]
        x = x.reshape(b, *split, i)  # [b, places, window, places, window, ..., i]
        x = jnp.moveaxis(x, range(1, 2 * axes, 2), range(1, axes + 1))
        y = jnp.tensordot(x, self.w_xio.astype(x.dtype), axes=axes + 1)
        return y if self.b_o is None else y + self.b_o.astype(x.dtype)


def _parts(size: int, window: int) -> tuple[int, int]:
    assert size % window == 0, f"{size} is not a multiple of {window}"
    return size // window, window


def max_pool(
    x: jax.Array, window: int, *, stride: int | tuple[int, ...], padding: int = 0
) -> jax.Array:
    """The largest in windows over all axes between the first and the last, as PyTorch has it.

    The stride is that of all these axes, or one for each.
    """
    axes = x.ndim - 2
    return jax.lax.reduce_window(
        x,
        -jnp.inf,
        jax.lax.max,
        (1, *(window,) * axes, 1),
        (1, *_each(stride, axes), 1),
        ((0, 0), *((padding, padding),) * axes, (0, 0)),
    )


def adaptive_max_pool(x: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """The largest in as many windows of each axis as `sizes` says, as PyTorch places them.

    Windows are even parts of the axis, widened to whole places. [b, *x, i] -> [b, *sizes, i].
    """
    for axis, size in enumerate(sizes, 1):
        n = x.shape[axis]
        ends = [(k * n // size, -(-(k + 1) * n // size)) for k in range(size)]
        parts = [jax.lax.slice_in_dim(x, *each, axis=axis).max(axis) for each in ends]
        x = jnp.stack(parts, axis)
    return x


def _each(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    """One for each axis, of one that may be that of all."""
    return (value,) * axes if isinstance(value, int) else value


# ---------------------------------------------------------------------------- norms, activations
class BatchNorm(nnx.Module):
    """Batch norm with the statistics of the training, which are folded into its gain and shift.

    Computed in float32. [..., d] -> [..., d].
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.gain_d = weight(rngs, (width,), ("norm",), ones)
        self.shift_d = weight(rngs, (width,), ("norm",), zeros)

    def __call__(self, x: jax.Array) -> jax.Array:
        return (x.astype(jnp.float32) * self.gain_d + self.shift_d).astype(x.dtype)


class PReLU(nnx.Module):
    """ReLU with a slope of each channel below zero. [..., d] -> [..., d]."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.slope_d = weight(rngs, (width,), ("norm",), zeros)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x >= 0, x, x * self.slope_d.astype(x.dtype))
