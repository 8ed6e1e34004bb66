"""Attention of a few hundred tokens as a Pallas kernel for TPUs.

All scores of a head fit a core's memory, so that the forward pass leaves nothing but its result,
and the backward pass computes the scores again: neither writes scores, maxima or sums of them.
Queries and keys are rotated within, and heads lie beside one another as maps leave them, so that
nothing is turned around on the way.

Letters: b rows, n query tokens, s key tokens, h query heads, g key/value heads, k head width,
r = h / g query heads of each key/value head.
"""

import dataclasses
import functools
import math
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # numbers in a row of a vector of a TPU
MOST_TOKENS = 512  # whose scores in float32 fit a core's memory several times over
_ROWS = 16  # of a tile of bfloat16

# Cosines and sines of the rotary embedding, each [tokens, k / 2].
Tables = tuple[jax.Array | np.ndarray, jax.Array | np.ndarray]
# What lanes are multiplied by: themselves, those a quarter of a head on, those a quarter back.
_Turns = tuple[jax.Array, jax.Array, jax.Array]
_OfBoth = tuple[_Turns | None, _Turns | None]  # of queries and of keys


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """Of one attention: what its kernels are compiled for.

    Attributes:
      shared: query heads of each key/value head, r.
      head_dim: k.
      valid: keys that count.
    """

    shared: int
    head_dim: int
    valid: int

    @property
    def scale(self) -> float:
        return 1 / math.sqrt(self.head_dim)


def fits(q: jax.Array, k: jax.Array) -> bool:
    """Whether the kernel is for such queries [b, n, h, k] and keys [b, s, g, k]."""
    _, s, g, head_dim = k.shape
    whole = LANES % head_dim == 0 and head_dim % 4 == 0 and g * head_dim % LANES == 0
    return whole and max(q.shape[1], s) <= MOST_TOKENS


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    valid: int,
    of_queries: Tables | None = None,
    of_keys: Tables | None = None,
) -> jax.Array:
    """Softmax of q k / sqrt(head width) over the first `valid` keys, times v.

    Args:
      q: [b, n, h, k].
      k: [b, s, g, k].
      v: [b, s, g, k].
      valid: keys that count.
      of_queries: by which queries are rotated first, [n, k / 2] each; None: they are not.
      of_keys: likewise for keys, [s, k / 2].

    Returns:
      [b, n, h, k].
    """
    sizes = _Sizes(q.shape[2] // k.shape[2], q.shape[3], valid)
    turns = tuple(tables and _turns(tables, q.shape[3]) for tables in (of_queries, of_keys))
    beside = (x.reshape(*x.shape[:2], -1) for x in (q, k, v))  # heads beside one another
    return _attention(sizes, *beside, turns).reshape(q.shape)


def _turns(tables: Tables, head_dim: int) -> _Turns:
    """Each [n, lanes], n as whole tiles: two quarters of each head turn, the rest stays."""
    cos, sin = (jnp.asarray(table) for table in tables)
    quarter = head_dim // 4
    rest = jnp.zeros((len(cos), head_dim - 2 * quarter), cos.dtype)
    none = jnp.zeros_like(sin[:, :quarter])
    by_head = (
        (cos, rest + 1),
        (-sin[:, :quarter], none, rest),
        (none, sin[:, quarter:], rest),
    )
    heads = LANES // head_dim
    padding = ((0, _whole_tiles(len(cos)) - len(cos)), (0, 0))
    cosines, onward, back = (
        jnp.pad(jnp.tile(jnp.concatenate(x, axis=1), (1, heads)), padding) for x in by_head
    )
    return cosines, onward, back


# ------------------------------------------------------------------------------- the two passes
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(
    sizes: _Sizes, q: jax.Array, k: jax.Array, v: jax.Array, turns: _OfBoth
) -> jax.Array:
    """q [b, n, h k], k and v [b, s, g k]; [b, n, h k]."""
    return _call(_forward, sizes, (q, k, v), turns, (q,), products=2)[0]


def _attention_fwd(
    sizes: _Sizes, q: jax.Array, k: jax.Array, v: jax.Array, turns: _OfBoth
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array, _OfBoth]]:
    return _call(_forward, sizes, (q, k, v), turns, (q,), products=2)[0], (q, k, v, turns)


def _attention_bwd(
    sizes: _Sizes, kept: tuple[jax.Array, jax.Array, jax.Array, _OfBoth], out: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, _OfBoth]:
    q, k, v, turns = kept
    dq, dk, dv = _call(_backward, sizes, (q, k, v, out), turns, (q, k, v), products=5)
    return dq, dk, dv, jax.tree.map(jnp.zeros_like, turns)


_attention.defvjp(_attention_fwd, _attention_bwd)


def _call(
    kernel: Callable[..., None],
    sizes: _Sizes,
    arrays: tuple[jax.Array, ...],
    turns: _OfBoth,
    like: tuple[jax.Array, ...],
    products: int,
) -> tuple[jax.Array, ...]:
    """Runs a kernel for each row, and for each so many heads as lie in `LANES` of the keys.

    Args:
      kernel: `_forward` or `_backward`.
      sizes: of the attention.
      arrays: q, k, v and, for the backward pass, the gradient of the result.
      turns: see `_turns`.
      like: arrays whose shapes the results have.
      products: of scores with heads, to count by.
    """
    (b, n, width), (_, s, keys) = arrays[0].shape, arrays[1].shape

    def block(x: jax.Array) -> pl.BlockSpec:
        shape = (1, _whole_tiles(x.shape[1]), LANES * x.shape[2] // keys)
        return pl.BlockSpec(shape, lambda row, group: (row, 0, group))

    tables, tree = jax.tree.flatten(turns)
    once = [pl.BlockSpec(table.shape, lambda row, group: (0, 0)) for table in tables]
    return pl.pallas_call(
        functools.partial(kernel, sizes, tree, n, s),
        grid=(b, keys // LANES),
        in_specs=[*map(block, arrays), *once],
        out_specs=[*map(block, like)],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in like],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        cost_estimate=pl.CostEstimate(
            flops=2 * products * b * n * s * width,
            transcendentals=b * n * s * width // sizes.head_dim,
            bytes_accessed=sum(x.size * x.dtype.itemsize for x in (*arrays, *like)),
        ),
        name=f"short_attention{kernel.__name__}",
    )(*arrays, *tables)


def _whole_tiles(rows: int) -> int:
    return -(-rows // _ROWS) * _ROWS


# ---------------------------------------------------------------------------------- the kernels
# References are to blocks of one row of the batch: [1, n, r lanes] of queries and what is shaped
# like them, [1, s, lanes] of keys and values, [n, lanes] of what turns.
def _forward(sizes: _Sizes, tree: Any, n: int, s: int, *refs: Any) -> None:
    q_ref, k_ref, v_ref, *table_refs, out_ref = refs
    of_queries, of_keys = jax.tree.unflatten(tree, [ref[...] for ref in table_refs])
    q = _turned(sizes, _read(q_ref, n), of_queries, sizes.scale)
    k, v = _turned(sizes, _read(k_ref, s), of_keys), _read(v_ref, s)
    mixed = [
        _product(_probabilities(sizes, q[:, query], k[:, key]).astype(v.dtype), v[:, key])
        for query, key in _pairs(sizes)
    ]
    out_ref[0] = jnp.concatenate(mixed, axis=1).astype(out_ref.dtype)


def _backward(sizes: _Sizes, tree: Any, n: int, s: int, *refs: Any) -> None:
    q_ref, k_ref, v_ref, out_ref, *table_refs, dq_ref, dk_ref, dv_ref = refs
    of_queries, of_keys = jax.tree.unflatten(tree, [ref[...] for ref in table_refs])
    q = _turned(sizes, _read(q_ref, n), of_queries, sizes.scale)
    k, v = _turned(sizes, _read(k_ref, s), of_keys), _read(v_ref, s)
    out = _read(out_ref, n)
    dq, dk, dv = [], defaultdict(list), defaultdict(list)
    for query, key in _pairs(sizes):
        p = _probabilities(sizes, q[:, query], k[:, key])
        dp = _product(out[:, query], v[:, key], (1, 1))
        ds = (p * (dp - jnp.sum(p * dp, axis=1, keepdims=True))).astype(q.dtype)
        dq.append(_product(ds, k[:, key]))
        dk[key.start].append(_product(ds, q[:, query], (0, 0)))
        dv[key.start].append(_product(p.astype(q.dtype), out[:, query], (0, 0)))
    of_values = jnp.concatenate(
        [functools.reduce(operator.add, parts) for parts in dv.values()], axis=1
    )
    dq_ref[0] = _turned_back(sizes, dq, of_queries, sizes.scale).astype(dq_ref.dtype)
    dk_ref[0] = _turned_back(
        sizes, [functools.reduce(operator.add, parts) for parts in dk.values()], of_keys
    ).astype(dk_ref.dtype)
    dv_ref[0] = of_values.astype(dv_ref.dtype)


def _read(ref: Any, tokens: int) -> jax.Array:
    """A block of one row, with zeros where it is larger than the array that it is of."""
    x = ref[0]
    if len(x) == tokens:
        return x
    return jnp.where(jax.lax.broadcasted_iota(jnp.int32, x.shape, 0) < tokens, x, 0)


def _pairs(sizes: _Sizes) -> Iterator[tuple[slice, slice]]:
    """Lanes of each query head of a block, and of its key/value head."""
    k = sizes.head_dim
    for key in range(LANES // k):
        for query in range(key * sizes.shared, (key + 1) * sizes.shared):
            yield slice(query * k, (query + 1) * k), slice(key * k, (key + 1) * k)


def _turned(sizes: _Sizes, x: jax.Array, turns: _Turns | None, scale: float = 1.0) -> jax.Array:
    """Heads [n, lanes] rotated in float32, and scaled; as x."""
    if turns is None:
        return (x.astype(jnp.float32) * scale).astype(x.dtype) if scale != 1 else x
    cosines, onward, backward = turns
    quarter = sizes.head_dim // 4

    def turn(x: jax.Array) -> jax.Array:
        ahead, behind = pltpu.roll(x, LANES - quarter, 1), pltpu.roll(x, quarter, 1)
        return x * cosines + ahead * onward + behind * backward

    return (scale * _by_lanes(turn, x.astype(jnp.float32))).astype(x.dtype)


def _turned_back(
    sizes: _Sizes, heads: Iterable[jax.Array], turns: _Turns | None, scale: float = 1.0
) -> jax.Array:
    """From gradients of what `_turned` gives, of each head [n, k], to those of what it takes."""
    x = scale * jnp.concatenate([*heads], axis=1)
    if turns is None:
        return x
    cosines, onward, backward = turns
    quarter = sizes.head_dim // 4

    def turn(x: jax.Array) -> jax.Array:
        ahead, behind = pltpu.roll(x * onward, quarter, 1), x * backward
        return x * cosines + ahead + pltpu.roll(behind, LANES - quarter, 1)

    return _by_lanes(turn, x)


def _by_lanes(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """What a function makes of each `LANES` of an array [n, lanes]."""
    starts = range(0, x.shape[1], LANES)
    return jnp.concatenate([function(x[:, start : start + LANES]) for start in starts], axis=1)


def _probabilities(sizes: _Sizes, q: jax.Array, k: jax.Array) -> jax.Array:
    """Softmax over the keys that count, [n, s]."""
    scores = _product(q, k, (1, 1))
    if sizes.valid != len(k):
        counts = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1) < sizes.valid
        scores = jnp.where(counts, scores, -jnp.inf)
    raised = jnp.exp(scores - jnp.max(scores, axis=1, keepdims=True))
    return raised / jnp.sum(raised, axis=1, keepdims=True)


def _product(x: jax.Array, y: jax.Array, over: tuple[int, int] = (1, 0)) -> jax.Array:
    """Of two matrices, summed over an axis of each, in float32."""
    axes = (((over[0],), (over[1],)), ((), ()))
    return jax.lax.dot_general(x, y, axes, preferred_element_type=jnp.float32)
