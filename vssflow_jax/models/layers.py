"""Small pieces of network: weights that say what they are, linear maps, norms, rotary positions.

Letters: b batch, n tokens, d model width, h query heads, g key/value heads, k head width.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

RopeTables = tuple[np.ndarray, np.ndarray]
Initializer = Callable[[jax.Array, tuple[int, ...], jnp.dtype], jax.Array]

zeros = nnx.initializers.zeros_init()
ones = nnx.initializers.ones_init()

NORM_EPSILON = 1e-5
ROPE_THETA = 10_000.0


def fan_in_of(axes: int) -> Initializer:
    """Normal, of variance 1 / i for a map from its first `axes` axes, i numbers, to the others."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
        inputs, outputs = tuple(range(axes)), tuple(range(axes, len(shape)))
        return nnx.initializers.lecun_normal(in_axis=inputs, out_axis=outputs)(key, shape, dtype)

    return init


fan_in = fan_in_of(1)


def weight(
    rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], init: Initializer = fan_in
) -> nnx.Param:
    """A float32 parameter that declares shape, logical axes and initialiser in one place.

    `vssflow_jax.parallel.sharding` turns the logical axes into mesh axes.
    """
    assert len(shape) == len(axes), f"{shape} has other axes than {axes}"
    value = init(rngs.params(), shape, jnp.float32)
    # Placement is decided once for the whole state, not weight by weight as each is made.
    return nnx.Param(value, sharding_names=axes, eager_sharding=False)


@jax.custom_vjp
def product(x: jax.Array, w_io: jax.Array) -> jax.Array:
    """A map [i, o] of rows [..., i], in the dtype of x; [..., o].

    The gradient of the map is summed in its own dtype, however coarse that of x is.
    """
    return x @ w_io.astype(x.dtype)


def _product_fwd(x: jax.Array, w_io: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ w_io.astype(x.dtype), (x, w_io)


def _product_bwd(
    kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w_io = kept
    rows = tuple(range(x.ndim - 1))
    of_map = jax.lax.dot_general(
        x, gradient, ((rows, rows), ((), ())), preferred_element_type=w_io.dtype
    )
    return gradient @ w_io.astype(x.dtype).T, of_map


product.defvjp(_product_fwd, _product_bwd)


class Linear(nnx.Module):
    """y = x w (+ b), computed in the dtype of x. [..., i] -> [..., o]."""

    def __init__(
        self,
        shape: tuple[int, int],
        axes: tuple[str, str],
        *,
        rngs: nnx.Rngs,
        bias: bool = False,
        init: Initializer = fan_in,
    ):
        self.w_io = weight(rngs, shape, axes, init)
        self.b_o = weight(rngs, shape[1:], axes[1:], zeros) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = product(x, self.w_io[...])
        return y if self.b_o is None else y + self.b_o.astype(x.dtype)


class LayerNorm(nnx.Module):
    """Affine layer norm over the last axis, in float32 whatever comes in and goes out.

    [..., d] -> [..., d].
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs, epsilon: float = NORM_EPSILON):
        self.epsilon = epsilon
        self.scale_d = weight(rngs, (width,), ("norm",), ones)
        self.bias_d = weight(rngs, (width,), ("norm",), zeros)

    def __call__(self, x: jax.Array, dtype: DTypeLike) -> jax.Array:
        x32 = x.astype(jnp.float32)
        centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(variance + self.epsilon)
        return (normed * self.scale_d + self.bias_d).astype(dtype)


class HeadNorm(nnx.Module):
    """RMS norm of each head, in float32 whatever comes in and goes out, with one scale for all.

    As queries and keys are normed by Henry et al. 2020, "Query-Key Normalization for Transformers",
    and with a learned scale by Dehghani et al. 2023, "Scaling Vision Transformers to 22 Billion
    Parameters". A head of zeros stays one. [..., h, k] -> [..., h, k].
    """

    def __init__(self, head_dim: int, *, rngs: nnx.Rngs):
        self.scale_k = weight(rngs, (head_dim,), ("head_dim",), ones)

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        mean_square = jnp.mean(x32**2, axis=-1, keepdims=True)
        normed = x32 * jax.lax.rsqrt(mean_square + NORM_EPSILON)
        return (normed * self.scale_k).astype(x.dtype)


def rope_tables(num_tokens: int, head_dim: int) -> RopeTables:
    """Cosines and sines of the rotary embedding, for the first half of each head.

    Returns:
      two float32 arrays [num_tokens, head_dim // 2], positions from 0.
    """
    rotary_dim = head_dim // 2
    frequency = ROPE_THETA ** -(np.arange(0, rotary_dim, 2) / rotary_dim)
    angle = np.arange(num_tokens)[:, None] * frequency.astype(np.float32)
    angle = np.concatenate([angle, angle], axis=-1).astype(np.float32)
    return np.cos(angle), np.sin(angle)


def rotate(x: jax.Array, tables: RopeTables) -> jax.Array:
    """Apply rotary positions to the first half of each head, in float32. [b, n, h, k] -> same."""
    cos, sin = (table[:, None, :] for table in tables)  # [n, 1, k / 2]
    turned, kept = jnp.split(x, 2, axis=-1)
    turned = turned.astype(jnp.float32)
    first, second = jnp.split(turned, 2, axis=-1)
    partner = jnp.concatenate([-second, first], axis=-1)
    return jnp.concatenate([(turned * cos + partner * sin).astype(x.dtype), kept], axis=-1)
