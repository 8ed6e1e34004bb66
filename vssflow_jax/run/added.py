"""Fields that a state has now and checkpoints of earlier versions have not."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

_FIELDS = ("recent",)


def lacking(names: Iterable[str], abstract: Any) -> list[str]:
    """The fields of a state that a checkpoint with arrays of these dotted names has not."""
    there = {name.partition(".")[0] for name in names}
    return [field for field in _FIELDS if getattr(abstract, field, None) and field not in there]


def without(abstract: Any, fields: Sequence[str]) -> Any:
    """A state in which some fields hold nothing."""
    return dataclasses.replace(abstract, **{name: {} for name in fields}) if fields else abstract


def completed(state: Any, abstract: Any, fields: Sequence[str]) -> Any:
    """A state with fields that it lacks: as `abstract` describes them, and NaN, for not known."""
    if not fields:
        return state
    wanted = {field: getattr(abstract, field) for field in fields}

    def unknown() -> dict[str, Any]:
        return jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), wanted)

    placed = jax.tree.map(lambda leaf: leaf.sharding, wanted)
    return dataclasses.replace(state, **jax.jit(unknown, out_shardings=placed)())
