"""Files of PyTorch, read for their tensors alone: nothing that a file brings along is ever run.

A checkpoint of a trainer is a pickle with callbacks, settings and optimizers beside the tensors.
Only PyTorch's own functions that rebuild tensors are called, and arrays of NumPy are rebuilt here;
whatever else a file asks for becomes a placeholder that does nothing.
"""

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

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
)
_PLAIN_KEYS = ("state_dict", "model_state_dict", "model", "module", "network", "net")
_WITHIN_AVERAGED = (*_AVERAGED_KEYS, *_PLAIN_KEYS, "shadow", "shadow_params")
_EXTRA_STATE = "_extra_state"  # how PyTorch names what a module adds to its state dict
_SHOWN = 8
_DEEPEST = 3  # containers in one another that are searched for tensors

_ZIP_START = b"PK\x03\x04"
# Functions that rebuild tensors from bytes. They call nothing of the file.
_REBUILDING = (
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
)
# What runs code or acts on the machine: a file that asks for it is not to be trusted at all.
_ACTING_MODULES = frozenset(
    ("os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "runpy", "importlib", "pty")
)
_ACTING_BUILTINS = frozenset(
    ("eval", "exec", "compile", "__import__", "open", "input", "breakpoint")
)


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """The tensors of the state dict in a file of PyTorch, floating point as float32.

    Args:
      path: a state dict, or a dict with one in it, such as a Lightning checkpoint. Where there is
        an averaged one too, beside it or in a callback's state, its names get `AVERAGED` in front.

    Raises:
      UserError: the file is damaged, asks to run code, or has no state dict; says what it holds.
        Or it holds averaged weights that cannot be told by name.
    """
    torch = require("torch", "convert")
    # Not `weights_only`, which refuses the whole file where it holds more than tensors.
    options = {"weights_only": False, "pickle_module": _restricted(path)}
    try:
        _refuse_program(path)
        loaded = torch.load(path, map_location="cpu", mmap=False, **options)
    except UserError:
        raise
    except Exception as error:  # Of damaged files torch and pickle raise anything.
        reason = str(error).partition(".")[0] or "it ends too early"
        raise UserError(f"{path} is not a whole file of torch: {reason}; get it again") from error
    return {
        name: _as_numpy(value) for name, value in _state_dict(path, loaded, torch.Tensor).items()
    }


def _refuse_program(path: Path) -> None:
    """Raise UserError for TorchScript, which `torch.load` would hand to `torch.jit.load` to run."""
    torch = require("torch", "convert")
    with path.open("rb") as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            return
    # Read by PyTorch's own reader: another one could be shown other names.
    names = torch._C.PyTorchFileReader(str(path)).get_all_records()
    if any(name == "constants.pkl" or name.startswith("code/") for name in names):
        raise UserError(
            f"{path} is a TorchScript program, not weights; save the state_dict() of its module"
        )


def _as_numpy(value: Any) -> np.ndarray:
    if isinstance(value, _Array):
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
    named = (_weights(loaded.get(key), _PLAIN_KEYS, tensor) for key in _PLAIN_KEYS)
    plain = next(filter(None, named), None) or ({} if averaged else _unnamed(path, loaded, tensor))
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
        is_object = name in loaded and isinstance(value, _Placeholder)
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
    return isinstance(value, tensor) or (isinstance(value, _Array) and value.value is not None)


class _Placeholder:
    """Stands for an object of a class that is not looked up."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Placeholder":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...

    # So that what calls it, or takes a part of it, gets no further than here.
    def __call__(self, *args: Any, **kwargs: Any) -> "_Placeholder":
        return self


class _Array(_Placeholder):
    """Stands for an array of NumPy.

    Attributes:
      value: the array, where it is one of plain numbers.
    """

    value: Any = None

    @property
    def ndim(self) -> int:
        return self.value.ndim

    def __setstate__(self, state: Any) -> None:
        *_, shape, dtype, is_fortran, data = state
        if isinstance(dtype, np.dtype):
            self.value = np.ndarray(shape, dtype, data, order="F" if is_fortran else "C").copy()


def _numbers(code: Any, *_: Any) -> Any:
    """The dtype of plain numbers that a code such as "f4" names, else a placeholder."""
    is_plain = isinstance(code, str) and re.fullmatch("[biuf][1-8]", code)
    return np.dtype(code, copy=True) if is_plain else _Placeholder()


def _latin1(text: str, _: str) -> bytes:
    """Bytes, as older pickles have them."""
    return text.encode("latin1")


def _restricted(path: Path) -> Any:
    """What `torch.load` takes in place of the module `pickle`.

    Its unpickler raises UserError where a file asks for what acts on the machine.
    """
    torch = require("torch", "convert")
    known = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch", "Size"): torch.Size,
        ("torch.nn.parameter", "Parameter"): torch.nn.Parameter,
        ("torch.storage", "UntypedStorage"): torch.UntypedStorage,
        ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_plain,
        ("numpy", "dtype"): _numbers,
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("_codecs", "encode"): _latin1,
        **{("torch._utils", name): getattr(torch._utils, name) for name in _REBUILDING},
        **{("builtins", kind.__name__): kind for kind in (bytes, dict, list, set, tuple)},
    }
    dtypes = {name: kind for name, kind in vars(torch).items() if isinstance(kind, torch.dtype)}
    known |= {("torch", name): kind for name, kind in dtypes.items()}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            module = {"__builtin__": "builtins"}.get(module, module)
            if found := known.get((module, name)):
                return found
            acting = name in _ACTING_BUILTINS and module == "builtins"
            if acting or module.partition(".")[0] in _ACTING_MODULES:
                raise UserError(
                    f"{path} asks to run {module}.{name}, which no weights need; do not use it"
                )
            return type(name, (_Placeholder,), {})

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(Unpickler=Unpickler, load=load, __name__="pickle")


def _rebuild_plain(rebuild: Any, kind: Any, arguments: tuple[Any, ...], state: Any) -> Any:
    """A tensor of a class of its own, as a plain one."""
    return rebuild(*arguments)
