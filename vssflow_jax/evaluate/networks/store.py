"""What a network has made of clips, in a folder of files, each of which is written whole.

So a job that was stopped goes on with the clips that are not there, and memory does not grow with
their number: features stay in their files until they are read.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from vssflow_jax.utils.files import remove_tree, write_atomically
from vssflow_jax.weights.state_dict import open_safetensors

_ORIGIN = "origin.json"
_UNFIT = "unfit"
_NAME = 16  # digits of a file's

Made = Mapping[str, NDArray[Any] | np.generic]
"""Of one clip: key -> array."""


class _Entry(NamedTuple):
    """What a file has of one clip."""

    path: Path
    entry: str
    key: str
    clip: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Store:
    """A folder of features by one network.

    Attributes:
      folder: the folder; it may be missing.
    """

    folder: Path

    def claim(self, origin: Mapping[str, Any]) -> None:
        """Make the folder one of this origin; what is of another one there is deleted.

        Args:
          origin: all that features depend on but the clips, as JSON values.
        """
        path = self.folder / _ORIGIN
        if self.folder.exists() and self.origin != origin:
            remove_tree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(origin) + "\n")

    @property
    def origin(self) -> dict[str, Any]:
        """What it was claimed for; nothing where it never was."""
        try:
            found: dict[str, Any] = json.loads((self.folder / _ORIGIN).read_text())
        except (FileNotFoundError, ValueError):  # Of what cannot be read just now nothing is known.
            return {}
        return found

    @property
    def exists(self) -> bool:
        """Whether there are features."""
        return bool(self._paths())

    def add(self, clips: Mapping[str, Made], unfit: Mapping[str, str]) -> None:
        """Write features of clips that are not there yet.

        Args:
          clips: clip -> its features.
          unfit: clip -> why it has none.
        """
        tensors = {
            f"{key}/{clip}": np.asarray(value, order="C")
            for clip, made in clips.items()
            for key, value in made.items()
        }
        content = save(tensors, {_UNFIT: json.dumps(dict(unfit))})
        # Called by what is in it: processes do not know of one another's files.
        name = hashlib.sha256(content).hexdigest()[:_NAME]
        write_atomically(self.folder / f"{name}.safetensors", content)

    def read(self, key: str) -> "Clips":
        """Features of all clips by their key, in the order of the clips' names.

        Raises:
          UserError: a file is damaged.
        """
        found = {x.clip: x for x in self._entries() if x.key == key}
        return Clips({clip: found[clip] for clip in sorted(found)})

    def unfit(self) -> dict[str, str]:
        """Clip -> why it has no features; see `read`."""
        found: dict[str, str] = {}
        for path in self._paths():
            with open_safetensors(path) as file:
                found |= json.loads(file.metadata()[_UNFIT])
        fit = self.done() if found else set()  # Some may have been mended.
        return {clip: why for clip, why in found.items() if clip not in fit}

    def done(self) -> set[str]:
        """Clips that have features; see `read`. The others may be fit another time."""
        return {x.clip for x in self._entries()}

    def _entries(self) -> Iterator["_Entry"]:
        for path in self._paths():
            with open_safetensors(path) as file:
                for entry in file.keys():  # noqa: SIM118 - it is no mapping
                    shape = tuple(file.get_slice(entry).get_shape())
                    key, clip = entry.split("/", 1)
                    yield _Entry(path, entry, key, clip, shape)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))


@dataclasses.dataclass(frozen=True)
class Clips(Mapping[str, NDArray[Any]]):
    """Clip -> its features, which are read when they are asked for.

    Attributes:
      entries: clip -> where they are.
    """

    entries: Mapping[str, _Entry]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Clip -> shape of its features, none of which is read."""
        return {clip: entry.shape for clip, entry in self.entries.items()}

    def __getitem__(self, clip: str) -> NDArray[Any]:
        path, entry = self.entries[clip][:2]
        with open_safetensors(path) as file:
            value: NDArray[Any] = file.get_tensor(entry)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)
