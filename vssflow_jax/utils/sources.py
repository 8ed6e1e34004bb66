"""What a result was made by: the code of this project, and the packages that it uses."""

import hashlib
import importlib
import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent


def digest(plugins: str = "") -> str:
    """SHA-256 over the modules of this project, and those of the user's own.

    Args:
      plugins: names of the latter, with commas.
    """
    total = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        total.update(str(path.relative_to(_PACKAGE)).encode() + path.read_bytes())
    for name in filter(None, plugins.split(",")):
        module = importlib.import_module(name.strip())
        # Of a package all modules count, for any of them may be imported by the others.
        folders = [Path(folder) for folder in getattr(module, "__path__", ())]
        of_package = sorted(path for folder in folders for path in folder.rglob("*.py"))
        for path in of_package or [Path(module.__file__ or "")]:
            total.update(f"{name} {path.name}".encode() + path.read_bytes())
    return total.hexdigest()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
