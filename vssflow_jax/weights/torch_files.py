"""Files of PyTorch, read for their tensors alone: nothing that a file brings along is ever run.

A checkpoint of a trainer is a pickle with callbacks, settings and optimizers beside the tensors,
which become placeholders (`vssflow_jax.weights.unpickling`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vssflow_jax.parallel import distributed
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.object_cache import local
from vssflow_jax.utils.optional import require
from vssflow_jax.weights.torchscript import open_program, read_program
from vssflow_jax.weights.unpickling import Array, Placeholder, restricted

AVERAGED = "ema."
"""In front of names of averaged weights."""

# Where state dicts lie in files that hold more.
_AVERAGED_KEYS = (
    "ema_state_dict",
    "state_dict_ema",
    "model_ema_state_dict",
    "averaged_state_dict",
    "ema",
    "model_ema",
    "ema_model",
    "params_ema",
)
_PLAIN_KEYS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "params")
_WITHIN_AVERAGED = (*_AVERAGED_KEYS, *_PLAIN_KEYS, "shadow", "shadow_params")
_EXTRA_STATE = "_extra_state"  # how PyTorch names what a module adds to its state dict
_SHOWN = 8
_DEEPEST = 3  # containers in one another that are searched for tensors


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """The tensors of the state dict in a file of PyTorch, floating point as float32.

    Args:
      path: a state dict, or a dict with one in it, such as a Lightning checkpoint, or a program of
        TorchScript, which is not run. Where there is an averaged one too, beside it or in a
        callback's state, its names get `AVERAGED` in front.

    Raises:
      UserError: the file is damaged, asks to run code, or has no state dict; says what it holds.
        Or it holds averaged weights that cannot be told by name.
    """
    torch, loaded = _load(path)
    return {
        name: _as_numpy(value) for name, value in _state_dict(path, loaded, torch.Tensor).items()
    }


def read_torch_entries(path: Path) -> Mapping[Any, Any]:
    """What a file of PyTorch holds by name, such as settings of a trainer; {} if nothing is named.

    Raises:
      UserError: the file is damaged or asks to run code.
    """
    _, loaded = _load(path)
    return loaded if isinstance(loaded, Mapping) else {}


def _load(path: Path) -> tuple[Any, Any]:
    """PyTorch, and what a file of it holds."""
    torch = require("torch", "convert")
    # Not `weights_only`, which refuses the whole file where it holds more than tensors.
    options = {"weights_only": False, "pickle_module": restricted(path)}
    try:
        if program := open_program(path):  # which `torch.load` would run
            return torch, read_program(path, program)
        return torch, torch.load(local(path), map_location="cpu", mmap=False, **options)
    except UserError:
        raise
    except Exception as error:  # Of damaged files torch and pickle raise anything.
        reason = str(error).partition(".")[0] or "it ends too early"
        raise UserError(f"{path} is not a whole file of torch: {reason}; get it again") from error


def _as_numpy(value: Any) -> np.ndarray:
    if isinstance(value, Array):
        array = value.value
        return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
    return (value.detach().float() if value.is_floating_point() else value.detach()).numpy()


def _state_dict(path: Path, loaded: Any, tensor: type) -> dict[str, Any]:
    """The tensors by name, of the state dict that is meant, and of an averaged one.

    Raises:
      UserError: there is none, or nobody can tell which.
    """
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path} holds no state dict but a {type(loaded).__name__}")
    averaged = _averaged(path, loaded, tensor)
    held = {key: _weights(loaded.get(key), _PLAIN_KEYS, tensor) for key in _PLAIN_KEYS}
    taken = next((key for key in _PLAIN_KEYS if held[key]), "")
    plain = held[taken] if taken else {} if averaged else _unnamed(path, loaded, tensor)
    known = {taken, *_AVERAGED_KEYS}
    others = [
        str(name) for name in loaded if name not in known and not _fault(loaded[name], tensor)
    ]
    if taken and others and distributed.is_main():
        print(f"{path}: takes '{taken}'; other state dicts in it are left out: {', '.join(others)}")
    return plain | {AVERAGED + name: value for name, value in averaged.items()}


def _averaged(path: Path, loaded: Mapping[Any, Any], tensor: type) -> dict[str, Any]:
    """The averaged weights of a file, or of one of its parts, such as a callback; {} for none.

    Raises:
      UserError: there are some, but not by name, or several.
    """
    parts = {name: part for name, part in loaded.items() if name not in _AVERAGED_KEYS}
    places = {"": loaded, **{f"{name}.": part for name, part in parts.items()}}
    if isinstance(callbacks := loaded.get("callbacks"), Mapping):
        places |= {f"callbacks.{name}.": part for name, part in callbacks.items()}
    entries = {
        f"{place}{key}": part[key]
        for place, part in places.items()
        if isinstance(part, Mapping)
        for key in _AVERAGED_KEYS
        if key in part and not _is_tensor(part[key], tensor)
    }
    found = {
        name: weights
        for name, value in entries.items()
        if (weights := _weights(value, _WITHIN_AVERAGED, tensor))
    }
    if len(found) > 1:
        raise UserError(
            f"{path} holds several averaged state dicts, {', '.join(found)}; save the one that is "
            "meant alone"
        )
    for name, value in entries.items():
        # Objects may hold weights; those further down are of settings.
        is_object = name in loaded and isinstance(value, Placeholder)
        if not found and (is_object or _holds_tensors(value, tensor)):
            raise UserError(
                f"{path} holds averaged weights, '{name}', that are not tensors by name but a "
                f"{type(value).__name__}; copy them into the network and save its state_dict() "
                "alone, or save the weights that are not averaged alone"
            )
    return next(iter(found.values()), {})


def _weights(values: Any, keys: Sequence[str], tensor: type) -> dict[str, Any]:
    """The tensors by name that an entry holds under one of some keys, or itself; {} for none.

    Scalars alone, such as a step, are no weights.
    """
    if not isinstance(values, Mapping):
        return {}
    for candidate in (*(values.get(key) for key in keys), values):
        if isinstance(candidate, Mapping) and all(isinstance(name, str) for name in candidate):
            found = {name: x for name, x in candidate.items() if _is_tensor(x, tensor)}
            if any(x.ndim for x in found.values()):
                return found
    return {}


def _unnamed(path: Path, loaded: Mapping[Any, Any], tensor: type) -> dict[str, Any]:
    """The tensors of a file that is a state dict, or that holds one under an unusual name.

    Raises:
      UserError: there is none, or nobody can tell which.
    """
    if not (fault := _fault(loaded, tensor)):
        return _weights(loaded, (), tensor)
    faults = {name: _fault(value, tensor) for name, value in loaded.items()}
    found = [name for name in faults if not faults[name]]
    if len(found) == 1:
        return _weights(loaded[found[0]], (), tensor)
    if not found and _weights(loaded, (), tensor):
        raise UserError(
            f"{path} holds no state dict but a {fault}; save the state dict of the network alone"
        )
    entries = [f"{name} ({fault or 'state dict'})" for name, fault in faults.items()]
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    what = f"several state dicts, {', '.join(map(str, found))}" if found else "no state dict"
    raise UserError(
        f"{path} holds {what}; its entries are {', '.join(entries[:_SHOWN]) or 'none'}{more}; save "
        "the state dict of the network alone"
    )


def _fault(values: Any, tensor: type) -> str:
    """What an entry is instead of a state dict; "" for one that is nothing but that.

    Beside tensors it may have single numbers and words, and what modules add.
    """
    kind = type(values).__name__
    if not isinstance(values, Mapping) or not any(_is_tensor(x, tensor) for x in values.values()):
        return kind
    for name, value in values.items():
        if not isinstance(name, str):
            return f"{kind} with {name!r} for a name"
        single = isinstance(value, int | float | str | None)
        if not (single or _is_tensor(value, tensor) or name.endswith(_EXTRA_STATE)):
            return f"{kind} with a {type(value).__name__}, '{name}', beside its tensors"
    return "" if _weights(values, (), tensor) else f"{kind} of scalars"


def _holds_tensors(value: Any, tensor: type, depth: int = _DEEPEST) -> bool:
    """Whether a container has tensors in it, other than scalars."""
    if _is_tensor(value, tensor):
        return value.ndim > 0
    parts = value.values() if isinstance(value, Mapping) else value
    is_container = isinstance(value, Mapping | list | tuple) and depth > 0
    return is_container and any(_holds_tensors(part, tensor, depth - 1) for part in parts)


def _is_tensor(value: Any, tensor: type) -> bool:
    return isinstance(value, tensor) or (isinstance(value, Array) and value.value is not None)
