"""Modules of the user's own, imported so that they can add to the registries."""

import importlib
import os
import sys

from vssflow_jax.utils.errors import UserError

_loaded: dict[str, None] = {}  # a set that remembers the order


def loaded() -> str:
    """The modules that this process has imported, for `load` in the processes that it starts."""
    return ",".join(_loaded)


def load(names: str) -> None:
    """Import modules; those in the folder that the command runs in are found too.

    Args:
      names: names of the modules, with commas; "" for none.

    Raises:
      UserError: one is not found, or raises an exception.
    """
    for name in filter(None, names.split(",")):
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            importlib.import_module(name.strip())
            _loaded[name.strip()] = None
        except Exception as error:  # A module of the user's own may raise anything.
            raise UserError(
                f"plugins: {name.strip()} cannot be imported ({type(error).__name__}: {error}); "
                "name a module on the Python path or in the folder that the command runs in"
            ) from error
