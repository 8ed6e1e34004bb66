"""Weights of frozen networks, from the names and layouts of PyTorch.

A table says where a published file keeps each module; what becomes of a tensor follows from the
last part of our name. Blocks, which are stacked here, are tensors of their own there.

Letters: o outputs, i inputs, d width, h heads, k head width, x axes of a window.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.mapping import Rule, Weights, flatten

BATCH_NORM_EPSILON = 1e-5
COUNTER = "num_batches_tracked"
"""What batch norms have for their training alone."""

# (shape of ours, tensors of one module) -> ours
Layout = Callable[..., np.ndarray]


class Part(NamedTuple):
    """One of the parts, all of one size, that a tensor holds one below the other."""

    stem: str
    place: int
    parts: int


Stem = str | Part


class Tensor(NamedTuple):
    """A tensor that is a weight by itself, no part of a module.

    Attributes:
      name: its name; `*` is the number of a block.
      dropped: axes of it, all of length 1, that ours has not.
    """

    name: str
    dropped: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Names:
    """Where a file keeps the weights of a network.

    Attributes:
      modules: our name of a module -> what the names of its tensors start with, up to `weight` or
        `bias`; `*` is the number of a block.
      tensors: our name of a weight that is of no module -> theirs.
      rules: of weights that are made otherwise.
    """

    modules: Mapping[str, Stem]
    tensors: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    rules: Sequence[Rule] = ()

    def joined(self, other: "Names") -> "Names":
        """With those of other parts of the network."""
        return Names(
            {**self.modules, **other.modules},
            {**self.tensors, **other.tensors},
            (*self.rules, *other.rules),
        )


def thirds(module: str, stem: str) -> dict[str, Stem]:
    """Queries, keys and values of an attention that are one tensor in the file."""
    return {f"{module}.{name}": Part(stem, place, 3) for place, name in enumerate("qkv")}


def projections(module: str, stem: str) -> dict[str, Stem]:
    """The maps of an attention, as transformers and fairseq name them."""
    return {f"{module}.{name}": f"{stem}{name}_proj." for name in ("q", "k", "v", "out")}


def rules(abstract: Weights, names: Names) -> list[Rule]:
    """One rule for each weight of a network.

    Args:
      abstract: nested, anything with a shape for each weight.
      names: where the file keeps them.
    """
    special = {rule.target: rule for rule in names.rules}
    return [
        special.get(target) or _rule(target, leaf.shape, names)
        for target, leaf in flatten(abstract).items()
    ]


def prefix_of(tensors: Mapping[str, np.ndarray], name: str, what: str) -> str:
    """What stands in a file before the names that a network itself gives its tensors.

    Args:
      tensors: of the file, by name.
      name: a name that only this network has.
      what: the network and its published file, for messages.

    Raises:
      UserError: no name ends in that one, or several do.
    """
    found = [full.removesuffix(name) for full in tensors if f".{full}".endswith(f".{name}")]
    if len(found) != 1:
        fault = f"{len(found)} tensors '*.{name}'" if found else f"no tensor '{name}'"
        raise UserError(f"the source has {fault}; it is no file of {what}")
    return found[0]


def shape_of(tensors: Mapping[str, np.ndarray], name: str, axes: int, what: str) -> tuple[int, ...]:
    """Shape of a tensor that tells sizes of a network.

    Raises:
      UserError: there is no such tensor, it has more or fewer axes, or no numbers.
    """
    if name not in tensors:
        raise UserError(f"the source has no tensor '{name}'; it is no file of {what}")
    shape = tensors[name].shape
    if len(shape) != axes or 0 in shape:
        raise UserError(
            f"tensor '{name}' of the source has shape {shape}, not {axes} axes; it is no file of "
            f"{what}"
        )
    return shape


def parts_of(width: int, part: int, each: str, what: str) -> int:
    """How many parts of a width there are, such as heads of a transformer.

    Args:
      width: of all of them.
      part: of one.
      each: one of them in words.
      what: the network and its published file, for messages.

    Raises:
      UserError: the width is no multiple of that of a part.
    """
    if width % part:
        raise UserError(
            f"the source is of width {width}, no multiple of {part}, that of {each}; it is no file "
            f"of {what}"
        )
    return width // part


def count(names: Collection[str], stem: str) -> int:
    """How many numbers there are behind `stem`, where names of blocks have theirs."""
    found = (re.match(rf"{re.escape(stem)}(\d+)\.", name) for name in names)
    return len({match[1] for match in found if match})


def counters(names: Collection[str]) -> tuple[str, ...]:
    """Names of tensors that only training needs."""
    return tuple(name for name in names if name.endswith(COUNTER))


def folded_over_window(length: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """What weight norm of each place of a window makes, [1, 1, x] and [o, i, x] -> [x, i, o]."""
    norm = np.sqrt(np.sum(direction.astype(np.float64) ** 2, axis=(0, 1), keepdims=True))
    return (direction * (length / norm)).transpose(2, 1, 0)


def _rule(target: str, shape: tuple[int, ...], names: Names) -> Rule:
    stem, parts, layout = _source(target, names)
    text = stem.stem if isinstance(stem, Part) else stem
    is_stack = "*" in text
    blocks = [text.replace("*", str(i)) for i in range(shape[0])] if is_stack else [text]
    own_shape = shape[1:] if is_stack else shape

    def convert(*tensors: np.ndarray) -> np.ndarray:
        if isinstance(stem, Part):
            tensors = tuple(np.split(tensor, stem.parts)[stem.place] for tensor in tensors)
        starts = range(0, len(tensors), len(parts))
        made = [layout(own_shape, *tensors[start : start + len(parts)]) for start in starts]
        return np.stack(made) if is_stack else made[0]

    return Rule(target, tuple(f"{block}{part}" for block in blocks for part in parts), convert)


def _source(target: str, names: Names) -> tuple[Stem, tuple[str, ...], Layout]:
    """What the names of the tensors of a weight start and end with, and what becomes of them."""
    if target in names.tensors:
        name, dropped = names.tensors[target]
        return name, ("",), lambda _, tensor: np.squeeze(tensor, dropped)
    module, _, leaf = target.rpartition(".")
    return names.modules[module], *_LEAVES[leaf]


def _matrix(shape: tuple[int, ...], tensor: np.ndarray, inputs: int = 1) -> np.ndarray:
    """[o, i] -> [i, o], of which the first `inputs` axes are i."""
    matrix = math.prod(shape[:inputs]), math.prod(shape[inputs:])
    if tensor.shape[::-1] != matrix:
        raise ValueError(f"it would be {tensor.shape[::-1]}, the model's is {matrix}")
    return tensor.T.reshape(shape)


def _vector(shape: tuple[int, ...], tensor: np.ndarray) -> np.ndarray:
    """[d] -> [d], or d in two axes."""
    if tensor.ndim != 1:
        raise ValueError(f"it would be {tensor.shape}, the model's is {shape}")
    return tensor.reshape(shape)


def _kernel(shape: tuple[int, ...], tensor: np.ndarray) -> np.ndarray:
    """[o, i, *x] -> [*x, i, o]."""
    return tensor.transpose(*range(2, tensor.ndim), 1, 0)


def _gain(shape: tuple[int, ...], weight: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """What a batch norm multiplies by, [d]."""
    return weight / np.sqrt(variance.astype(np.float64) + BATCH_NORM_EPSILON)


def _shift(
    shape: tuple[int, ...],
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
) -> np.ndarray:
    """What a batch norm adds then, [d]."""
    return bias - mean * _gain(shape, weight, variance)


# What the last part of a name of ours is made of, and how.
_LEAVES: Mapping[str, tuple[tuple[str, ...], Layout]] = {
    "w_io": (("weight",), _matrix),
    "b_o": (("bias",), _vector),
    "w_dhk": (("weight",), _matrix),
    "b_hk": (("bias",), _vector),
    "w_hkd": (("weight",), partial(_matrix, inputs=2)),
    "b_d": (("bias",), _vector),
    "w_xio": (("weight",), _kernel),
    "scale_d": (("weight",), _vector),
    "bias_d": (("bias",), _vector),
    "slope_d": (("weight",), _vector),
    "gain_d": (("weight", "running_var"), _gain),
    "shift_d": (("weight", "bias", "running_mean", "running_var"), _shift),
}
