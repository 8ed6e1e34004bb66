"""Attention as two matrix products around a softmax, for any device that XLA compiles for.

The backward pass computes the scores again, which costs less than to keep them; query heads that
share keys and values are rows of one product. On CPUs a gradient takes a half to a quarter of the
time of what is derived from `jax.nn.dot_product_attention` (`benchmarks/RESULTS.md`).

Letters: b rows, n query tokens, s key tokens, h query heads, g key/value heads, k head width,
m = n h / g queries of each key/value head.
"""

import functools
import math

import jax
import jax.numpy as jnp


def attention(q: jax.Array, k: jax.Array, v: jax.Array, valid: int) -> jax.Array:
    """Softmax of q k / sqrt(head width) over the first `valid` keys, times v.

    Args:
      q: [b, n, h, k].
      k: [b, s, g, k].
      v: [b, s, g, k].
      valid: keys that count.

    Returns:
      [b, n, h, k].
    """
    b, n, h, width = q.shape
    g = k.shape[2]
    queries = q.reshape(b, n, g, h // g, width).transpose(0, 2, 3, 1, 4).reshape(b, g, -1, width)
    mixed = _mix(valid, queries, k.swapaxes(1, 2), v.swapaxes(1, 2))
    return mixed.reshape(b, g, h // g, n, width).transpose(0, 3, 1, 2, 4).reshape(q.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mix(valid: int, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """q [b, g, m, k], k and v [b, g, s, k]; [b, g, m, k]."""
    return _product("bgms,bgsk->bgmk", _probabilities(valid, q, k).astype(v.dtype), v)


def _mix_fwd(
    valid: int, q: jax.Array, k: jax.Array, v: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    mixed = _product("bgms,bgsk->bgmk", _probabilities(valid, q, k).astype(v.dtype), v)
    return mixed, (q, k, v)


def _mix_bwd(
    valid: int, kept: tuple[jax.Array, jax.Array, jax.Array], out: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    q, k, v = kept
    p = _probabilities(valid, q, k)
    dp = jnp.einsum("bgmk,bgsk->bgms", out, v, preferred_element_type=jnp.float32)
    ds = p * (dp - jnp.sum(p * dp, axis=-1, keepdims=True)) / math.sqrt(q.shape[-1])
    ds = ds.astype(q.dtype)
    return (
        _product("bgms,bgsk->bgmk", ds, k),
        _product("bgms,bgmk->bgsk", ds, q),
        _product("bgms,bgmk->bgsk", p.astype(out.dtype), out),
    )


_mix.defvjp(_mix_fwd, _mix_bwd)


def _probabilities(valid: int, q: jax.Array, k: jax.Array) -> jax.Array:
    """Float32 [b, g, m, s]."""
    scores = jnp.einsum("bgmk,bgsk->bgms", q, k, preferred_element_type=jnp.float32)
    scores = scores / math.sqrt(q.shape[-1])
    if valid != k.shape[2]:
        scores = jnp.where(jnp.arange(k.shape[2]) < valid, scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1)


def _product(axes: str, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum(axes, x, y, preferred_element_type=jnp.float32).astype(x.dtype)
