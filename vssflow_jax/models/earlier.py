"""Weights of earlier versions of the network: the same numbers by other names and in other shapes.

Before heads were an axis, attention had matrices [d, h k]; the two maps into the feed-forward were
one, [d, 2, f]; and two streams were called as they are on disk.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from flax import traverse_util
from jax.sharding import NamedSharding, PartitionSpec

Weights = dict[Any, Any]  # nested

_BLOCKS = "transformer.blocks."
# Patterns of today's names, and what they were.
_RENAMED = {
    r"^(conditions\.(?:projectors|inputs))\.visual\.": r"\1.clip.",
    r"^(conditions\.(?:projectors|inputs))\.sync\.": r"\1.synch.",
    r"_attention\.(q|k|v|out)_\w{3}$": r"_attention.\1.w_io",
    r"\.ffw\.(?:value|gate)\.": ".ffw.inner.",
    r"\.ffw\.out\.": ".ffw.outer.",
}
# Today's names, and which axis has the heads.
_HEADS = {r"\.(q_dhk|k_egk|v_egk)$": -2, r"\.out_hkd$": -3}
# Today's names, and their place on the axis before the last one.
_PARTS = {r"\.ffw\.value\.": 0, r"\.ffw\.gate\.": 1}


def is_earlier(names: Iterable[str]) -> bool:
    """Whether weights of these dotted names, maybe with more in front, are of an earlier version.

    All versions of the network have a feed-forward.
    """
    return any(f"{_BLOCKS}ffw.inner." in name for name in names)


def layout(abstract: Weights) -> Weights:
    """Shapes and shardings in the earlier layout, nested.

    Args:
      abstract: today's, nested: all weights of the network or some; `jax.ShapeDtypeStruct`.
    """
    leaves = traverse_util.flatten_dict(abstract, sep=".")
    return traverse_util.unflatten_dict(
        {_name(name): _leaf(name, leaf) for name, leaf in leaves.items()}, sep="."
    )


def upgrade(weights: Weights, abstract: Weights) -> Weights:
    """Weights of the earlier layout in today's.

    Args:
      weights: as `layout(abstract)` describes them.
      abstract: today's, nested; where a leaf has a sharding, the weight is placed so.
    """

    def moved(weights: Weights) -> Weights:
        there = traverse_util.flatten_dict(weights, sep=".")
        return traverse_util.unflatten_dict(
            {name: _weight(name, there[_name(name)], leaf.shape) for name, leaf in leaves.items()},
            sep=".",
        )

    leaves = traverse_util.flatten_dict(abstract, sep=".")
    return jax.jit(moved, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract))(weights)


def layouts(state: Any) -> Any:
    """`layout` of each tree of the network's weights in a state: averages, moments, ..."""
    return jax.tree.map(
        lambda part: layout(part) if _is_network(part) else part, state, is_leaf=_is_network
    )


def upgraded(state: Any, abstract: Any) -> Any:
    """`upgrade` of each tree of the network's weights in a state, as `abstract` describes it."""
    return jax.tree.map(
        lambda part, there: upgrade(there, part) if _is_network(part) else there,
        abstract,
        state,
        is_leaf=_is_network,
    )


def _is_network(part: Any) -> bool:
    return isinstance(part, Mapping) and "transformer" in part


def _name(name: str) -> str:
    for pattern, earlier in _RENAMED.items():
        name = re.sub(pattern, earlier, name)
    return name


def _found(table: Mapping[str, int], name: str) -> int | None:
    return next((value for pattern, value in table.items() if re.search(pattern, name)), None)


def _leaf(name: str, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Shape and sharding of the earlier weight that one of today's comes from."""
    shape, spec = list(leaf.shape), [None] * len(leaf.shape)
    if isinstance(leaf.sharding, NamedSharding):
        spec[: len(leaf.sharding.spec)] = leaf.sharding.spec
    heads = _found(_HEADS, name)
    if heads is not None:
        at = len(shape) + heads
        shape[at : at + 2] = [math.prod(shape[at : at + 2])]
        spec.pop(at + 1)
    elif _found(_PARTS, name) is not None:
        shape.insert(-1, len(_PARTS))
        spec.insert(-1, None)
    sharding = leaf.sharding
    if isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, PartitionSpec(*spec))
    return jax.ShapeDtypeStruct(tuple(shape), leaf.dtype, sharding=sharding)


def _weight(name: str, earlier: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    part = _found(_PARTS, name)
    return earlier.reshape(shape) if part is None else earlier[..., part, :]
