"""Files of named tensors, as PyTorch projects keep them: safetensors, and torch's own with torch.

Everything comes as NumPy arrays, floating point as float32.
"""

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp  # which also teaches NumPy the bfloat16 that safetensors asks it for
import numpy as np

from vssflow_jax.parallel import distributed
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import whole
from vssflow_jax.utils.object_cache import local
from vssflow_jax.weights.torch_files import AVERAGED, read_torch, read_torch_entries

if TYPE_CHECKING:
    from safetensors import SafetensorError

StateDict = dict[str, np.ndarray]

PLAIN = "(not averaged) "
"""In front of names of weights beside which there are averaged ones."""

CONFIG_FILE = "config.json"
SAFETENSORS = ".safetensors"

_INDEX = f"*{SAFETENSORS}.index.json"
_TORCH_INDEX = "*.bin.index.json"
_TORCH = (".ckpt", ".pt", ".pth", ".bin", ".model", ".tar")
# What DistributedDataParallel, torch.compile, FSDP and activation checkpointing put into names.
_WRAPPERS = re.compile(
    r"(?:(?<=\.)|^)(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
# What names of averaged copies begin with; more than once where such a copy is an entry by itself.
_AVERAGED = re.compile(rf"^(?:{re.escape(AVERAGED)}|ema_model\.|model_ema\.|averaged_model\.)+")
_BESIDE_AVERAGED = "online_model."  # the other copy in files of ema-pytorch
_BOOKKEEPING = ("n_averaged", "num_averaged", "num_updates", "decay", "initted", "step")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_HEADER_SIZE_BYTES = 8  # a safetensors file: the header's length, the header as JSON, the tensors


def read_state_dict(path: Path) -> StateDict:
    """All tensors of a file, or of the one model that a folder holds, named as by `unwrapped`.

    Where the model is there twice, as it is and averaged, a line is printed on which is taken.

    Args:
      path: a `.safetensors` file, a file of torch (`.ckpt`, `.pt`, `.pth`, `.bin`, `.model` or
        `.tar`; a Lightning checkpoint's `state_dict` is taken out), or a folder with one of them
        or with the shards that a `*.safetensors.index.json` or `*.bin.index.json` lists.

    Raises:
      UserError: names the file, and the key where one is cut off or missing.
    """
    path = _model_file(path)
    tensors = _read_shards(path) if path.suffix == ".json" else _read_file(path)
    network = unwrapped(path, tensors)
    if distributed.is_main() and any(name.startswith(PLAIN) for name in network):
        print(f"{path}: takes the averaged weights; those that are not averaged are left over")
    return network


def read_entries(path: Path) -> Mapping[Any, Any]:
    """What the file of a model holds by name beside its tensors, if it is one of torch; else {}.

    Args:
      path: as in `read_state_dict`.

    Raises:
      UserError: it cannot be read.
    """
    path = _model_file(path)
    return read_torch_entries(path) if path.suffix in _TORCH else {}


def check_is_itself(path: Path) -> None:
    """Check that a file is not what stands for a file of weights that was not fetched.

    Raises:
      UserError: it is empty, a pointer of Git LFS, or a web page.
    """
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER)).lower()
    if not start:
        raise UserError(f"{path} is empty; get it again")
    if start == _LFS_POINTER:
        raise UserError(
            f"{path} is a pointer of Git LFS, not the file itself; run git lfs pull in the "
            "repository that it is of"
        )
    if start.lstrip().startswith((b"<!doctype", b"<html")):
        raise UserError(f"{path} is a web page, not the file; download the file itself")


def check_finite(what: str, tensor: np.ndarray) -> None:
    """Check that a tensor that is used, `what` in messages, holds no NaN and no infinite number.

    Raises:
      UserError: it does.
    """
    # The sum first: it is NaN or infinite if a number is, and needs no array of its own.
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.sum(tensor)
    if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(total):
        wrong = int(np.sum(~np.isfinite(tensor)))
        if wrong:
            raise UserError(
                f"{what} holds {wrong} numbers of {tensor.size} that are not finite; get another "
                "checkpoint"
            )


def check_number(what: str, tensor: np.ndarray) -> None:
    """Check that a weight, `what` in messages, is of finite floating point.

    Raises:
      UserError: it is not, such as one that was quantised to integers.
    """
    if not np.issubdtype(tensor.dtype, np.floating):
        raise UserError(
            f"{what} is {tensor.dtype}, not floating point; quantised weights are not read: get "
            "them in float32, float16 or bfloat16"
        )
    check_finite(what, tensor)


def unwrapped(path: Path, tensors: Mapping[str, np.ndarray]) -> StateDict:
    """Tensors by the names that the network itself gives them.

    What wrappers of PyTorch put into names is taken out. Of a network that is there twice, as it is
    and averaged, the averaged copy is taken; names of the other get `PLAIN` in front. What
    `LitEma` of latent-diffusion averages, a network or a part of one, gets its dots back.

    Raises:
      UserError: two tensors that are to be taken would have one name.
    """
    # Numbers that averages keep beside the weights, such as `n_averaged` and `ema.decay`.
    names = {
        name: _WRAPPERS.sub("", name)
        for name, tensor in tensors.items()
        if tensor.ndim or name.rpartition(".")[2] not in _BOOKKEEPING
    }
    bare = {name: _AVERAGED.sub("", own) for name, own in names.items()}
    averaged = {
        name: own
        for name, own in bare.items()
        if own != names[name] and not own.startswith(_BESIDE_AVERAGED)
    }
    plain = {
        name: own.removeprefix(_BESIDE_AVERAGED) if averaged else own
        for name, own in bare.items()
        if name not in averaged
    }
    full = _full_names(set(averaged.values()), plain.values())
    # Names that have their dots are the network's own, though the plain copy has it as a part.
    averaged = {name: own if "." in own else full.get(own, own) for name, own in averaged.items()}
    twice = {*averaged.values(), *full.values()}
    plain = {name: PLAIN + own if own in twice else own for name, own in plain.items()}
    result: StateDict = {}
    for name, own in (averaged | plain).items():
        if own in result and not own.startswith(PLAIN):
            raise UserError(f"{path} holds '{own}' twice, under several names; save it once")
        result[own] = tensors[name]
    return result


def _full_names(averaged: Collection[str], plain: Iterable[str]) -> dict[str, str]:
    """Names in the plain copy of the tensors of an averaged one, by those in that.

    The averaged copy may be of one submodule, whose name it lacks then, and may lack the dots.
    Empty if no submodule has all of them, or several do.
    """
    dotless = {name.replace(".", ""): name for name in averaged}
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    for full in plain:
        parts = full.split(".")
        for depth in range(len(parts)):
            name = dotless.get("".join(parts[depth:]))
            if name is not None:
                modules[".".join(parts[:depth])][name] = full
    complete = {module: names for module, names in modules.items() if len(names) == len(averaged)}
    alone = next(iter(complete.values())) if len(complete) == 1 else {}
    return complete.get("", alone)


def write_state_dict(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file of float32 tensors, which appears whole or not at all.

    Args:
      path: file to write.
      tensors: tensors by name.
      metadata: texts by name, kept in the head of the file.
    """
    # Imported here and below: networks are trained where no such file is read or written.
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # safetensors writes an array's memory as it lies, so a transposed view would come out wrong.
    arrays = {name: np.asarray(value, np.float32, order="C") for name, value in tensors.items()}
    try:
        with whole(path) as partial:
            save_file(arrays, partial, metadata={"format": "pt", **(metadata or {})})
    except SafetensorError as error:
        raise UserError(f"{path} could not be written: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The values of a JSON file, such as the `config.json` beside the weights.

    Raises:
      UserError: no such file, or not a JSON object.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; it belongs beside the weights")
    check_is_itself(path)
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
    check_is_itself(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(local(path), framework="numpy") as tensors:
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
    for pattern in (_INDEX, f"*{SAFETENSORS}", _TORCH_INDEX, *(f"*{end}" for end in _TORCH)):
        found = sorted(path.glob(pattern))
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise UserError(f"{path} holds several files of weights: {names}; name one of them")
        if found:
            return found[0]
    raise UserError(f"{path} holds no weights: no {SAFETENSORS}, {', '.join(_TORCH)}")


def _read_shards(index: Path) -> StateDict:
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise UserError(f"{index} has no 'weight_map' from tensors to files; get it again")
    shards: dict[str, StateDict] = {}
    for file in sorted(set(files.values())):
        shard = index.parent / file
        if not shard.is_file():
            raise UserError(f"{shard} is missing; {index.name} lists it")
        shards[file] = _read_file(shard)
    for key, file in files.items():
        if key not in shards[file]:
            raise UserError(f"{index.parent / file} lacks '{key}', which {index.name} lists in it")
    return {key: shards[file][key] for key, file in files.items()}


def _read_file(path: Path) -> StateDict:
    check_is_itself(path)
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    if path.suffix in _TORCH:
        return read_torch(path)
    known = ", ".join((SAFETENSORS, *_TORCH))
    raise UserError(f"{path}: weights come in a file of these: {known}, or in a folder with one")


def _read_safetensors(path: Path) -> StateDict:
    with open_safetensors(path) as tensors:
        return {key: _tensor(path, tensors, key) for key in tensors.keys()}  # noqa: SIM118


def _tensor(path: Path, tensors: Any, key: str) -> np.ndarray:
    try:
        return _as_float32(tensors.get_tensor(key))
    except AttributeError as error:  # of NumPy, which lacks floating point of 8 bits
        dtype = tensors.get_slice(key).get_dtype()
        raise UserError(
            f"{path}: '{key}' is {dtype}, quantised numbers, which are not read; get the weights "
            "in float32, float16 or bfloat16"
        ) from error


def _as_float32(tensor: np.ndarray) -> np.ndarray:
    floating = jnp.issubdtype(tensor.dtype, jnp.floating)
    return tensor.astype(np.float32, copy=False) if floating else tensor


def _damage(path: Path, error: "SafetensorError") -> str:
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
