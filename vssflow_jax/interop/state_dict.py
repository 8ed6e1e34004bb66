"""Files of named tensors, as PyTorch projects keep them: safetensors, and torch's own with torch.

Everything comes as NumPy arrays, floating point as float32.
"""

import contextlib
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp  # which also teaches NumPy the bfloat16 that safetensors asks it for
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vssflow_jax.errors import UserError
from vssflow_jax.optional import require

StateDict = dict[str, np.ndarray]

CONFIG_FILE = "config.json"
SAFETENSORS = ".safetensors"

_INDEX = f"*{SAFETENSORS}.index.json"
_TORCH = (".ckpt", ".pt", ".pth", ".bin")
_HEADER_SIZE_BYTES = 8  # a safetensors file: the header's length, the header as JSON, the tensors


def read_state_dict(path: Path) -> StateDict:
    """All tensors of a file, or of the one model that a folder holds.

    Args:
      path: a `.safetensors` file, a file of torch (`.ckpt`, `.pt`, `.pth`, `.bin`; a Lightning
        checkpoint's `state_dict` is taken out), or a folder with one of them or with the shards
        that a `*.safetensors.index.json` lists.

    Raises:
      UserError: names the file, and the key where one is cut off or missing.
    """
    path = _model_file(path)
    if path.suffix == ".json":
        return _read_shards(path)
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    if path.suffix in _TORCH:
        return _read_torch(path)
    known = ", ".join((SAFETENSORS, *_TORCH))
    raise UserError(f"{path}: weights come in a file of these: {known}, or in a folder with one")


def write_state_dict(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file of float32 tensors, which appears whole or not at all."""
    # safetensors writes an array's memory as it lies, so a transposed view would come out wrong.
    arrays = {name: np.asarray(value, np.float32, order="C") for name, value in tensors.items()}
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(arrays, partial, metadata={"format": "pt"})
        partial.replace(path)
    except SafetensorError as error:
        raise UserError(f"{path} could not be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """The values of a JSON file, such as the `config.json` beside the weights.

    Raises:
      UserError: no such file, or not a JSON object.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; it belongs beside the weights")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}; get it again") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a JSON object; get it again")
    return values


def read_config_beside(path: Path) -> dict[str, Any]:
    """The values of the `config.json` that belongs to a file or folder of weights.

    Raises:
      UserError: no such file or folder, or no `config.json` there.
    """
    _check_exists(path)
    return read_json((path if path.is_dir() else path.parent) / CONFIG_FILE)


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """A safetensors file to read tensors or slices of.

    Raises:
      UserError: no such file, or not a whole one.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing")
    try:
        with safe_open(path, framework="numpy") as tensors:
            yield tensors
    except SafetensorError as error:
        reason = _damage(path, error)
        raise UserError(f"{path} is not a whole safetensors file: {reason}") from error


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path} does not exist; give a file of weights or a folder with one")


def _model_file(path: Path) -> Path:
    """The file of a folder that holds or lists its tensors; a file itself."""
    _check_exists(path)
    if path.is_file():
        return path
    for pattern in (_INDEX, f"*{SAFETENSORS}", *(f"*{suffix}" for suffix in _TORCH)):
        found = sorted(path.glob(pattern))
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise UserError(f"{path} holds several files of weights: {names}; name one of them")
        if found:
            return found[0]
    raise UserError(f"{path} holds no weights: no {SAFETENSORS}, {', '.join(_TORCH)}")


def _read_shards(index: Path) -> StateDict:
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict):
        raise UserError(f"{index} has no 'weight_map'; get it again")
    tensors: StateDict = {}
    for file in sorted(set(files.values())):
        shard = index.parent / file
        if not shard.is_file():
            raise UserError(f"{shard} is missing; {index.name} lists it")
        tensors |= _read_safetensors(shard)
    for key, file in files.items():
        if key not in tensors:
            raise UserError(f"{index.parent / file} lacks '{key}', which {index.name} lists in it")
    return tensors


def _read_safetensors(path: Path) -> StateDict:
    with open_safetensors(path) as tensors:
        return {key: _as_float32(tensors.get_tensor(key)) for key in tensors.keys()}  # noqa: SIM118


def _as_float32(tensor: np.ndarray) -> np.ndarray:
    floating = jnp.issubdtype(tensor.dtype, jnp.floating)
    return tensor.astype(np.float32, copy=False) if floating else tensor


def _damage(path: Path, error: SafetensorError) -> str:
    """What is wrong with a safetensors file; where its end is cut off, the first tensor cut."""
    size = path.stat().st_size
    with path.open("rb") as file, contextlib.suppress(ValueError, AttributeError):
        length = int.from_bytes(file.read(_HEADER_SIZE_BYTES), "little")
        header = json.loads(file.read(min(length, size)))
        held = size - _HEADER_SIZE_BYTES - length
        ends = sorted((entry.get("data_offsets", (0, 0))[1], key) for key, entry in header.items())
        cut = [key for end, key in ends if end > held]
        if cut:
            return f"it ends within '{cut[0]}', {ends[-1][0] - held} bytes short; get it again"
    return f"{error}; get it again"


def _read_torch(path: Path) -> StateDict:
    torch = require("torch", "convert")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, and reading that could run its code; if you trust "
            "it, save its 'state_dict' alone with torch and safetensors first (docs/weights.md)"
        ) from error
    except (RuntimeError, EOFError) as error:
        reason = str(error).partition(".")[0] or "it is empty"
        raise UserError(f"{path} is not a whole file of torch: {reason}; get it again") from error
    tensors = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(tensors, dict):
        raise UserError(f"{path} holds no state dict but a {type(tensors).__name__}")
    strange = [key for key, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise UserError(f"{path}: '{strange[0]}' is no tensor; give a state dict")
    return {
        key: (value.float() if value.is_floating_point() else value).numpy()
        for key, value in tensors.items()
    }
