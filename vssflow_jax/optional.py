"""Packages that only a part of the project needs, and that the base install leaves out."""

import importlib
from types import ModuleType

from vssflow_jax.errors import UserError


def require(package: str, extra: str) -> ModuleType:
    """Imports an optional package.

    Args:
      package: the name to import.
      extra: the extra of setup.py that installs it, e.g. "demo".

    Raises:
      UserError: the package is not installed; the message names the extra that installs it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise  # The package is there; something that it needs is not.
        raise UserError(
            f"the package {package!r} is not installed: run  pip install -e '.[{extra}]'"
        ) from error
