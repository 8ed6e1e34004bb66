"""Files of PyTorch, read for their tensors alone: nothing that a file brings along is ever run.

A checkpoint of a trainer is a pickle with callbacks, settings and optimizers beside the tensors.
Only PyTorch's own functions that rebuild tensors are called; whatever else a file asks for becomes
a placeholder that does nothing.
"""

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from vssflow_jax.errors import UserError
from vssflow_jax.optional import require

PLAIN = "(not averaged) "
"""In front of names of weights beside which there are averaged ones."""

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
_SHOWN = 8

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
      path: a state dict, or a dict with one in it, such as a Lightning checkpoint; where there is
        an averaged one beside it, names of the other get `PLAIN` in front.

    Raises:
      UserError: the file is damaged, asks to run code, or has no state dict; says what it holds.
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
        name: (value.detach().float() if value.is_floating_point() else value.detach()).numpy()
        for name, value in _state_dict(path, loaded, torch.Tensor).items()
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


def _state_dict(path: Path, loaded: Any, tensor: type) -> dict[str, Any]:
    """The tensors by name, of the state dict that is meant.

    Raises:
      UserError: there is none, or nobody can tell which.
    """
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path} holds no state dict but a {type(loaded).__name__}")
    found = {name: value for name, value in loaded.items() if _is_state_dict(value, tensor)}
    averaged = next((found[name] for name in _AVERAGED_KEYS if name in found), None)
    plain = next((found[name] for name in _PLAIN_KEYS if name in found), None)
    if averaged is not None:
        beside = {PLAIN + name: value for name, value in _tensors(plain or {}, tensor).items()}
        return _tensors(averaged, tensor) | beside
    if plain is None and _is_state_dict(loaded, tensor):
        plain = loaded
    elif plain is None and len(found) == 1:
        (plain,) = found.values()
    if plain is not None:
        return _tensors(plain, tensor)
    entries = [f"{name} ({type(value).__name__})" for name, value in loaded.items()]
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    what = f"several state dicts, {', '.join(map(str, found))}" if found else "no state dict"
    raise UserError(
        f"{path} holds {what}; its entries are {', '.join(entries[:_SHOWN]) or 'none'}{more}; save "
        "the state dict of the network alone"
    )


def _is_state_dict(values: Any, tensor: type) -> bool:
    """Whether there are tensors by name, and beside them nothing but single numbers or words."""
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        return False
    others = [value for value in values.values() if not isinstance(value, tensor)]
    single = all(isinstance(value, int | float | str | None) for value in others)
    return single and len(others) < len(values)


def _tensors(values: Mapping[str, Any], tensor: type) -> dict[str, Any]:
    return {name: value for name, value in values.items() if isinstance(value, tensor)}


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
        **{("torch._utils", name): getattr(torch._utils, name) for name in _REBUILDING},
        **{("builtins", kind.__name__): kind for kind in (dict, list, set, tuple)},
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
