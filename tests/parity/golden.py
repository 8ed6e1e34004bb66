"""One file of golden data: what is given, what was computed, and which of it has been looked at."""

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vssflow_jax.evaluate.metrics.of_sets import pair_by_name
from vssflow_jax.utils.errors import UserError

EXACT = 0.0
FORWARD = 1e-5
GRADIENT = 1e-4
SAMPLE = 1e-4
ADAPTIVE = 1e-3
ADAPTIVE_TIMES = 5e-3
OPTIMIZER = 1e-6
METRIC = 1e-6

SUFFIXES = (".npz", ".json")

# What NumPy and json raise where a file is empty, cut off, damaged, or of another format.
_UNREADABLE = (EOFError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True)
class Row:
    """One compared quantity: its largest error relative to its largest magnitude."""

    name: str
    shape: tuple[int, ...]
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance  # False for NaN


class Golden:
    """The arrays of one `.npz` file, or of a `.json` file.

    The keys of a `.json` file are paths, such as `raw/errors_per_utt`; a list of lists of words
    is read as a list of texts.

    `golden[key]` reads what the computation is given; `golden.row(key, ours, tolerance)` compares
    what it gave. Raises UserError for a file that cannot be read, and for a key that it lacks.
    """

    def __init__(self, path: Path):
        self.name = path.stem
        self._path = path
        self._arrays = _read(path)
        self._seen: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._arrays

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self:
            raise UserError(f"{self._path.name} lacks '{key}'")
        self._seen.add(key)
        return self._arrays[key]

    def cases(self, suffix: str) -> list[str]:
        """What stands before `suffix` in all keys that end in it."""
        return [key.removesuffix(suffix) for key in self._arrays if key.endswith(suffix)]

    def sibling(self, name: str) -> "Golden":
        """Another file of the same directory.

        Raises:
          UserError: it is not there.
        """
        path = self._path.with_name(f"{name}.npz")
        if not path.exists():
            raise UserError(f"{path} is missing; {self.name} was computed with its weights")
        return Golden(path)

    def below(self, prefix: str) -> dict[str, np.ndarray]:
        """All arrays whose key starts with `prefix`, by the rest of the key."""
        return {
            key.removeprefix(prefix): self[key] for key in self._arrays if key.startswith(prefix)
        }

    def pairs(self, name: str, clean: bool) -> tuple[list[int], list[int]]:
        """Indices into the references of a set of clips and into its generated clips, in pairs."""
        references, generated = (self[f"{name}_{side}_names"].tolist() for side in ("gt", "pred"))
        pairs = pair_by_name(references, generated, clean)
        return [*map(references.index, pairs.values())], [*map(generated.index, pairs)]

    def row(self, key: str, ours: ArrayLike, tolerance: float) -> Row:
        """Compare `ours` with the golden array `key`."""
        return compare(f"{self.name}/{key}", ours, self[key], tolerance)

    def unseen(self) -> Iterator[Row]:
        """A failing row for each array that was neither read nor compared."""
        for key in sorted(set(self._arrays) - self._seen):
            yield missing(f"{self.name}/{key} (not checked)", self._arrays[key].shape)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix == ".json":
            return dict(_leaves("", json.loads(path.read_text(encoding="utf-8"))))
        with np.load(path) as arrays:
            return dict(arrays)
    except _UNREADABLE as error:
        raise UserError(f"{path} is not a whole {path.suffix} file") from error


def _leaves(key: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _leaves(f"{key}/{name}" if key else name, below)
    elif isinstance(value, list) and any(isinstance(item, list) for item in value):
        yield key, np.array([" ".join(words) for words in value])
    else:
        yield key, np.array(value)


def missing(name: str, shape: tuple[int, ...] = ()) -> Row:
    """A failing row for what was not compared."""
    return Row(name, shape, np.nan, EXACT)


def compare(name: str, ours: ArrayLike, golden: np.ndarray, tolerance: float) -> Row:
    """A row of the error of `ours`; infinite where the shapes differ.

    Of texts, the error is the share of those that differ.
    """
    ours, golden = np.asarray(ours), np.asarray(golden)
    if ours.shape != golden.shape:
        return Row(f"{name} (ours has shape {ours.shape})", golden.shape, np.inf, tolerance)
    if golden.dtype.kind == "U":
        return Row(name, golden.shape, float(np.mean(ours != golden)), tolerance)
    difference = np.abs(ours.astype(np.float64) - golden.astype(np.float64))
    magnitude = np.max(np.abs(golden), initial=0.0) or 1.0
    return Row(name, golden.shape, float(np.max(difference, initial=0.0) / magnitude), tolerance)
