"""Results of earlier plans, each in a small file named by all that it depends on."""

import hashlib
import json
from pathlib import Path
from typing import Any

from vssflow_jax.utils import sources
from vssflow_jax.utils.files import write_atomically

_PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax")


class Cache:
    """A folder of results that were found by these sources with these packages."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._made_by = {"packages": sources.versions(_PACKAGES), "sources": sources.digest()}

    def get(self, key: Any) -> Any:
        """The result of a key, both JSON values; None if there is none."""
        path = self._path(key)
        return json.loads(path.read_text()) if path.exists() else None

    def put(self, key: Any, result: Any) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(key), json.dumps(result) + "\n")

    def _path(self, key: Any) -> Path:
        text = json.dumps([self._made_by, key], sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
