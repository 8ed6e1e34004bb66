"""The tensors of a network's published file, and the check that they are that network's."""

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.state_dict import check_finite, read_state_dict

Weights = Mapping[str, jax.Array]
Shapes = Mapping[str, tuple[int, ...]]


def read_weights(path: Path, what: str, shapes: Shapes, ignored: Sequence[str] = ()) -> Weights:
    """The tensors of a network, float32, by the names of its published file.

    Args:
      path: a file of torch or of safetensors, as `weights.state_dict` reads them.
      what: the network and its published file, for messages.
      shapes: shapes of all its tensors.
      ignored: patterns of names that may be there and are not needed.

    Raises:
      UserError: the file cannot be read, it is not of this network, or a tensor of the network
        holds numbers that are not finite.
    """
    tensors = read_state_dict(path)
    for name in tensors:
        if name not in shapes and not any(fnmatch.fnmatch(name, pattern) for pattern in ignored):
            raise UserError(f"{path}: unknown tensor '{name}'; this is no file of {what}")
    for name, shape in shapes.items():
        if name not in tensors:
            raise UserError(f"{path}: no tensor '{name}'; this is no file of {what}")
        found = tensors[name].shape
        if found != shape:
            raise UserError(
                f"{path}: tensor '{name}' has shape {found}, expected {shape}; this is no file of "
                f"{what}"
            )
        check_finite(f"{path}: '{name}'", tensors[name])
    return {name: jnp.asarray(tensors[name], jnp.float32) for name in shapes}
