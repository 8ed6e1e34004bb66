"""Files of CTranslate2, `model.bin`, read for their tensors.

Format (`python/ctranslate2/specs/model_spec.py` of its release, MIT; little-endian): version, name
of the network, its revision, number of tensors; of each its name, shape, dtype, bytes, and the
numbers; then pairs of a second name and a name.
"""

import math
import re
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.state_dict import StateDict, check_is_itself

MODEL_FILE = "model.bin"
_VERSIONS = (4, 5, 6)
_DTYPES = (np.float32, np.int8, np.int16, np.int32, np.float16, jnp.bfloat16)
_SCALE = "_scale"
_BLOCK = re.compile(r"\.layer_(\d+)(?=\.)")
_AS_PYTORCH = {"gamma": "weight", "beta": "bias"}


class Model(NamedTuple):
    """What a file holds: the name of its network, and the tensors."""

    network: str
    tensors: StateDict


def read_ctranslate2(path: Path) -> Model:
    """The tensors of a file, floating point as float32, quantised ones multiplied out.

    Their names get dots between parts, `layer_0` is `layer.0`, and norms have `weight` and `bias`;
    second names are left out.

    Args:
      path: a `model.bin`, or the folder with it.

    Raises:
      UserError: no such file, or not a whole one.
    """
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path} is missing")
    check_is_itself(path)
    with path.open("rb") as file:
        name = ""
        try:
            version = _number(file, "I")
            if version not in _VERSIONS:
                raise UserError(
                    f"{path} is no model.bin of CTranslate2, or one of version {version}; those of "
                    f"version {_VERSIONS[0]} to {_VERSIONS[-1]} are read"
                )
            network, _ = _text(file), _number(file, "I")
            tensors: StateDict = {}
            for _ in range(_number(file, "I")):
                name = _text(file)
                tensors[_named(name)] = _tensor(file)
        except (EOFError, IndexError, ValueError) as error:
            place = f" at '{name}'" if name else ""
            raise UserError(
                f"{path} is not a whole model.bin of CTranslate2: {error}{place}; get it again"
            ) from error
    return Model(network, _multiplied_out(tensors))


def _tensor(file: BinaryIO) -> np.ndarray:
    shape = [_number(file, "I") for _ in range(_number(file, "B"))]
    dtype = np.dtype(_DTYPES[_number(file, "B")])
    size = _number(file, "I")
    if size != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{size} bytes for {shape} of {dtype.name}")
    array = np.frombuffer(_bytes(file, size), dtype).reshape(shape)
    return array.astype(np.float32) if jnp.issubdtype(dtype, jnp.floating) else array


def _multiplied_out(tensors: StateDict) -> StateDict:
    """Tensors without the scales: those are of whole tensors, or of each first index."""
    quantised = [name for name in tensors if f"{name}{_SCALE}" in tensors]
    plain = {
        name: tensor
        for name, tensor in tensors.items()
        if name.removesuffix(_SCALE) not in quantised or name in quantised
    }
    for name in quantised:
        scale = tensors[f"{name}{_SCALE}"]
        own = scale.reshape(-1, *(1,) * (plain[name].ndim - 1))
        plain[name] = plain[name].astype(np.float32) / own
    return plain


def _named(name: str) -> str:
    module, dot, leaf = _BLOCK.sub(r".layer.\1", name.replace("/", ".")).rpartition(".")
    return f"{module}{dot}{_AS_PYTORCH.get(leaf, leaf)}"


def _text(file: BinaryIO) -> str:
    return _bytes(file, _number(file, "H")).rstrip(b"\0").decode()


def _number(file: BinaryIO, kind: str) -> int:
    size = struct.calcsize(f"<{kind}")
    return struct.unpack(f"<{kind}", _bytes(file, size))[0]


def _bytes(file: BinaryIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) < size:
        raise EOFError(f"it ends {size - len(found)} bytes too early")
    return found
