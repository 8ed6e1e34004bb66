"""Files of torch that hold tensors, and the check that they are those of a network."""

import fnmatch
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require
from vssflow_jax.weights.state_dict import SAFETENSORS, check_finite, read_state_dict

EXTRA = "convert"

Weights = Mapping[str, jax.Array]
Shapes = Mapping[str, tuple[int, ...]]


def load_torch(path: Path) -> Any:
    """What `torch.save` wrote: tensors, arrays of numbers, and containers of them, nothing else.

    Tensors stay in the file until they are used.

    Raises:
      UserError: no such file, a damaged one, or one that holds other objects; torch is not
        installed.
    """
    torch = require("torch", EXTRA)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with torch.serialization.safe_globals(_array_globals()):
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged or holds more than tensors, and reading that could run its code; "
            "get it again, or save its tensors alone"
        ) from error
    except Exception as error:  # Damage shows in many ways.
        reason = str(error).partition(".")[0] or type(error).__name__
        raise UserError(f"{path} is not a whole file of torch: {reason}; get it again") from error


def read_weights(path: Path, what: str, shapes: Shapes, ignored: Sequence[str] = ()) -> Weights:
    """The tensors of a network, float32, by the names of its published file.

    Args:
      path: a file of torch, with the tensors or with a dict of them called "model", or a
        `.safetensors` file.
      what: the network and its published file, for messages.
      shapes: shapes of all its tensors.
      ignored: patterns of names that may be there and are not needed.

    Raises:
      UserError: the file cannot be read, it is not of this network, or a tensor of the network
        holds numbers that are not finite.
    """
    tensors = _tensors(path, what)
    for name in tensors:
        if name not in shapes and not any(fnmatch.fnmatch(name, pattern) for pattern in ignored):
            raise UserError(f"{path}: unknown tensor '{name}'; this is no file of {what}")
    for name, shape in shapes.items():
        if name not in tensors:
            raise UserError(f"{path}: no tensor '{name}'; this is no file of {what}")
        found = tuple(tensors[name].shape)
        if found != shape:
            raise UserError(
                f"{path}: tensor '{name}' has shape {found}, expected {shape}; this is no file of "
                f"{what}"
            )
    arrays = {name: np.asarray(tensors[name]) for name in shapes}
    for name, array in arrays.items():
        check_finite(f"{path}: '{name}'", array)
    return {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}


def _tensors(path: Path, what: str) -> Mapping[str, Any]:
    if path.suffix == SAFETENSORS:
        return read_state_dict(path)
    loaded = load_torch(path)
    tensors = loaded.get("model", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(tensors, dict) or not all(hasattr(x, "shape") for x in tensors.values()):
        raise UserError(f"{path} holds no dict of tensors; this is no file of {what}")
    return tensors


def _array_globals() -> list[Any]:
    """What a pickle may name to make arrays of numbers, which some checkpoints have beside tensors.

    Files that were written with NumPy 1 know the functions by its older module.
    """
    functions: list[Any] = [np.empty(0).__reduce__()[0], np.int64(0).__reduce__()[0]]
    numbers = np.typecodes["AllInteger"] + np.typecodes["AllFloat"]
    return [
        *functions,
        *((function, f"numpy.core.multiarray.{function.__name__}") for function in functions),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in numbers},
    ]
