"""Packages that only a part of the project needs, and that the base install leaves out."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from vssflow_jax.utils.errors import MissingPackage


def require(package: str, extra: str) -> ModuleType:
    """Imports an optional package.

    Args:
      package: the name to import.
      extra: the extra of setup.py that installs it, e.g. "demo".

    Raises:
      MissingPackage: it is not installed; the message names the extra that installs it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise  # The package is there; something that it needs is not.
        raise MissingPackage(_missing(package, extra)) from error


def check(package: str, extra: str) -> None:
    """Checks that an optional package is installed, without importing it.

    Args:
      package: the name that it would be imported by.
      extra: the extra of setup.py that installs it.

    Raises:
      MissingPackage: it is not installed; the message names the extra that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingPackage(_missing(package, extra))


def package_file(package: str, name: str, extra: str) -> Path:
    """A file inside an optional package that is not imported.

    Args:
      package: the name that it would be imported by.
      name: name of the file, relative to the package's folder.
      extra: the extra of setup.py that installs it.

    Raises:
      MissingPackage: it is not installed; the message names the extra that installs it.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackage(_missing(package, extra))
    return Path(spec.submodule_search_locations[0]) / name


def _missing(package: str, extra: str) -> str:
    return f"the package {package!r} is not installed: run  pip install -e '.[{extra}]'"
