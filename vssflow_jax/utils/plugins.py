"""Modules of the user's own, imported so that they can add to the registries."""

import importlib
import os
import sys

from vssflow_jax.utils.errors import UserError


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
        except Exception as error:  # A module of the user's own may raise anything.
            raise UserError(
                f"plugins: {name.strip()} cannot be imported ({type(error).__name__}: {error}); "
                "name a module on the Python path or in the folder that the command runs in"
            ) from error
