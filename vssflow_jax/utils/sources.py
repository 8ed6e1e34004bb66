"""The sources that this process runs by: what was made by others may be something else."""

import functools
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


@functools.cache
def package_digest() -> str:
    """SHA-256 of all modules of this package."""
    return _digest((f"{path.relative_to(PACKAGE)}", path) for path in PACKAGE.rglob("*.py"))


def digest_in_use() -> str:
    """SHA-256 of those modules of this package that are imported by now."""
    found = ((name, getattr(module, "__file__", None)) for name, module in sys.modules.items())
    ours = ((name, path) for name, path in found if name.startswith("vssflow_jax.") and path)
    return _digest((name, Path(path)) for name, path in ours)


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(files):
        digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()
