"""Programs of TorchScript, read for the tensors of their modules: none of their code is run.

Such a file is an archive of code, constants and a pickle of modules, beside which the tensors lie.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.object_cache import local
from vssflow_jax.utils.optional import require
from vssflow_jax.weights.unpickling import Placeholder, restricted

_ZIP_START = b"PK\x03\x04"
_PROGRAM = "__torch__"  # the package that the classes of a program are in
_DTYPES = {
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
}


def open_program(path: Path) -> Any:
    """The archive, if a file is a program of TorchScript; otherwise None."""
    torch = require("torch", "convert")
    with path.open("rb") as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            return None
    # PyTorch's own reader: another one could be shown other names.
    archive = torch._C.PyTorchFileReader(str(local(path)))
    names = archive.get_all_records()
    is_program = any(name == "constants.pkl" or name.startswith("code/") for name in names)
    return archive if is_program else None


def read_program(path: Path, archive: Any) -> dict[str, Any]:
    """The tensors of a program's modules, by the names of `state_dict()`, which leaves some out.

    Args:
      path: where the program is, for messages.
      archive: from `open_program`.

    Raises:
      UserError: the pickle asks to run code, or modules keep their tensors in a way of their own.
    """
    module = _unpickler(path, archive)(io.BytesIO(archive.get_record("data.pkl"))).load()
    return dict(_tensors(path, module, "", require("torch", "convert").Tensor))


class _Module(Placeholder):
    """Stands for a module of a program.

    Attributes:
      attributes: by name; None where they are kept otherwise.
    """

    attributes: dict[str, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else None


def _tensors(path: Path, module: Any, prefix: str, tensor: type) -> Iterator[tuple[str, Any]]:
    """Name and tensor, of a module and those within it."""
    if not isinstance(module, _Module) or module.attributes is None:
        raise UserError(
            f"{path} is a TorchScript program, not weights; save the state_dict() of its module"
        )
    for name, value in module.attributes.items():
        if isinstance(value, tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(path, value, f"{prefix}{name}.", tensor)


def _unpickler(path: Path, archive: Any) -> Any:
    """Class of what reads a program's pickle: modules of its own classes, and tensors."""
    torch = require("torch", "convert")
    base: Any = restricted(path).Unpickler

    def rebuild(numbers: Any, offset: int, size: Any, stride: Any, *_: Any) -> Any:
        return numbers.as_strided(size, stride, offset)

    class Unpickler(base):
        def find_class(self, module: str, name: str) -> Any:
            if module.partition(".")[0] == _PROGRAM:
                return _Module
            if module == "torch" and name in _DTYPES:
                return getattr(torch, _DTYPES[name])
            if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                return rebuild
            return super().find_class(module, name)

        def persistent_load(self, what: Any) -> Any:
            """The numbers of a storage, in one row."""
            _, dtype, name, *_ = what
            numbers = bytearray(archive.get_record(f"data/{name}"))
            # Of nothing, there is no buffer.
            return (
                torch.frombuffer(numbers, dtype=dtype) if numbers else torch.empty(0, dtype=dtype)
            )

    return Unpickler
