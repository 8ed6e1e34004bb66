"""Pickles of PyTorch, read without running anything that they bring along.

Only PyTorch's own functions that rebuild tensors are called, and arrays of NumPy are rebuilt here;
whatever else a file asks for becomes a placeholder that does nothing.
"""

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

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


class Placeholder:
    """Stands for an object of a class that is not looked up."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Placeholder":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...

    # So that what calls it, or takes a part of it, gets no further than here.
    def __call__(self, *args: Any, **kwargs: Any) -> "Placeholder":
        return self


class Array(Placeholder):
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
    return np.dtype(code, copy=True) if is_plain else Placeholder()


def _latin1(text: str, _: str) -> bytes:
    """Bytes, as older pickles have them."""
    return text.encode("latin1")


def restricted(path: Path) -> Any:
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
        ("numpy.core.multiarray", "_reconstruct"): Array,
        ("numpy._core.multiarray", "_reconstruct"): Array,
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
            return type(name, (Placeholder,), {})

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(Unpickler=Unpickler, load=load, __name__="pickle")


def _rebuild_plain(rebuild: Any, kind: Any, arguments: tuple[Any, ...], state: Any) -> Any:
    """A tensor of a class of its own, as a plain one."""
    return rebuild(*arguments)
