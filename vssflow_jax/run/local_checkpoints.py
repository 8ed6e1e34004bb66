"""Checkpoints on the disks of the machines themselves, beside those that all of them share.

Each process writes the parts of the arrays that its devices hold, one file a step, in the
background. Only processes whose devices hold the same parts read them again. They save steps since
the last shared checkpoint; whatever stands in their way costs no more than these steps.
"""

import contextlib
import dataclasses
import json
import secrets
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils
from safetensors import SafetensorError
from safetensors.numpy import save_file

from vssflow_jax.parallel import distributed
from vssflow_jax.run.step_folder import by_name, checksums
from vssflow_jax.run.workdir import number_of
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, bucket_path, remove_partial, whole
from vssflow_jax.weights.state_dict import SAFETENSORS, open_safetensors

State = TypeVar("State")  # any tree of arrays
Span = tuple[slice, ...]

# A process may be a step ahead of one that still writes, so that the newest of each may differ.
_KEPT = 2
_NONE = -1
# In the metadata of a file. What is written between two starts of a run has one number, the same
# for all processes: files of different starts, as of a machine that was away, go not together.
_PROGRESS, _SUMS, _START = "progress", "checksums", "start"


@dataclasses.dataclass(frozen=True)
class _File:
    """A state, and what the metadata of a file say of it."""

    state: Any
    progress: dict[str, Any]
    sums: dict[str, int]
    start: int


class _UnfitError(UserError):
    """The parts in a file are not those that the devices of this process are to hold."""


def check(train: ml_collections.ConfigDict) -> None:
    """Check what a `train` section says of local checkpoints.

    Raises:
      UserError: a bucket, or a folder without a number of steps, or the other way round.
    """
    folder, every = train.local_checkpoints, train.local_checkpoint_every
    if bool(folder) != bool(every):
        raise UserError(
            f"train.local_checkpoints is '{folder}' and train.local_checkpoint_every is {every}; "
            "give both or neither"
        )
    if folder and bucket_path(as_path(folder)):
        raise UserError(
            f"train.local_checkpoints is {folder}; name a folder of each machine's own disk"
        )


class LocalCheckpoints(contextlib.AbstractContextManager["LocalCheckpoints"]):
    """Those of one process of a run; leaving the context waits for what is being written.

    All processes make one, and call `save` and `resume` of it together.

    Args:
      train: the `train` section of the config.
      workdir: folder of the run. A run that begins anew in it does not find its predecessor's.
    """

    def __init__(self, train: ml_collections.ConfigDict, workdir: Path):
        self._folder: Path | None = None
        if train.local_checkpoints:
            own = (f"{number_of(workdir):08x}", f"process-{jax.process_index()}")
            self._folder = as_path(train.local_checkpoints).expanduser().absolute().joinpath(*own)
        self._start = distributed.of_main(secrets.randbelow(2**31))
        self._passed_over: set[int] = set()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="local-checkpoint")
        self._under_way: Future[None] | None = None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._hear()
        self._writer.shutdown()

    def save(self, step: int, state: Any, progress: dict[str, Any]) -> None:
        """Write a checkpoint in the background; returns once the state may change again.

        One that cannot be written is told of, and no more: the shared ones are what counts.

        Args:
          step: steps done.
          state: state of the run.
          progress: JSON: the position in the data and timers.
        """
        self._hear()
        # Nobody throws away an older one before all have the last.
        distributed.all_say(True)
        metadata = {
            _PROGRESS: json.dumps(progress),
            _SUMS: json.dumps(checksums(state)),
            _START: json.dumps(self._start),
        }
        self._under_way = self._writer.submit(self._write, step, _parts(state), metadata)

    def _write(self, step: int, parts: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
        path = self._path(step)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            save_file(parts, partial, metadata)
        for old in self._steps()[_KEPT:]:
            self._path(old).unlink(missing_ok=True)

    def _hear(self) -> None:
        """Wait for the last write, and tell of it if it failed."""
        if self._under_way is None:
            return
        try:
            self._under_way.result()
        except (OSError, SafetensorError) as error:
            print(f"warning: local checkpoint not written: {error}", file=sys.stderr)
        self._under_way = None

    def resume(
        self, abstract: State, newer_than: int
    ) -> tuple[int, tuple[State, dict[str, Any]]] | None:
        """The newest one that is whole for all processes, placed as `abstract` says.

        Those that are newer and are not are told of, once.

        Args:
          abstract: shapes, dtypes and shardings of the state.
          newer_than: a step that all processes name.

        Returns:
          its step, and the state and the progress; None if there is none.
        """
        if self._folder is None:
            return None
        own = [step for step in self._steps() if step > newer_than]
        for step in self._of_all([step for step in own if step not in self._passed_over]):
            if found := self._read_by_all(step, abstract):
                if distributed.is_main():
                    print(f"going on from the local checkpoint of step {step}")
                return step, found
            self._passed_over.add(step)
        return None

    def _read_by_all(self, step: int, abstract: State) -> tuple[State, dict[str, Any]] | None:
        """State and progress, or None and a line if one process could not read its parts."""
        path, line, found = self._path(step), "", None
        try:
            found = _read(path, abstract)
        except _UnfitError as misfit:
            line = f"note: {misfit}; passed over"
        except MemoryError as error:
            line = f"warning: local checkpoint {path} could not be read ({error}); passed over"
        except (UserError, OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
            line = f"warning: local checkpoint {path} is damaged ({error}); passed over"
        if distributed.all_say(found is not None) and found is not None:
            if not distributed.all_say(distributed.of_main(found.start) == found.start):
                if distributed.is_main():
                    print(
                        f"note: local checkpoints of step {step} were not written by all processes "
                        "together; passed over",
                        file=sys.stderr,
                    )
                return None
            same = checksums(found.state) == found.sums
            if distributed.all_say(same):
                return found.state, found.progress
            if not same:
                line = (
                    f"warning: local checkpoint {path} is damaged (its numbers are not those that "
                    "were saved); passed over"
                )
        if line:
            print(line, file=sys.stderr)
        return None

    def discard_newer(self, step: int) -> None:
        """Remove those of later steps than the run goes on from, and what a kill left half done."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):  # A disk that has become read-only, say.
            remove_partial(self._folder)
            for newer in self._steps():
                if newer > step:
                    self._path(newer).unlink(missing_ok=True)

    def _steps(self) -> list[int]:
        """Steps of this process's files, the newest first."""
        files = self._folder.glob(f"*{SAFETENSORS}") if self._folder else ()
        return sorted((int(path.stem) for path in files if path.stem.isdigit()), reverse=True)

    def _of_all(self, own: Sequence[int]) -> list[int]:
        """Of this process's steps those that all processes have, the newest first."""
        padded = np.array([*own, *[_NONE] * _KEPT][:_KEPT], np.int32)
        everyone = padded[None]
        if jax.process_count() > 1:
            everyone = np.asarray(multihost_utils.process_allgather(padded))
        common = set.intersection(*({*map(int, row)} for row in everyone)) - {_NONE}
        passed = {*map(int, everyone.flat)} - common - {_NONE}
        if passed and distributed.is_main():
            steps = ", ".join(map(str, sorted(passed)))
            print(
                f"note: local checkpoints of these steps are not there for all processes: {steps}",
                file=sys.stderr,
            )
        return sorted(common, reverse=True)

    def _path(self, step: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{step}{SAFETENSORS}"


def _read(path: Path, abstract: State) -> "_File":
    """What is in one process's file.

    Raises:
      UserError: no whole file, or, `_UnfitError`, one of another state or mesh.
      KeyError, TypeError, ValueError: no file of ours.
    """
    with open_safetensors(path) as file:
        metadata, there = file.metadata(), {*file.keys()}

        def leaf(name: str, wanted: jax.ShapeDtypeStruct) -> jax.Array:
            def part(index: Span | None) -> np.ndarray:
                part_name = _part_name(name, index or (), wanted.shape)
                found = file.get_tensor(part_name) if part_name in there else None
                if found is None or found.dtype != wanted.dtype:
                    raise _UnfitError(
                        f"local checkpoint {path} does not fit the devices and the mesh of today: "
                        f"no {part_name} of {wanted.dtype}"
                    )
                return np.array(found)

            return jax.make_array_from_callback(wanted.shape, wanted.sharding, part)

        leaves = [leaf(name, wanted) for name, wanted in by_name(abstract).items()]
    state = jax.tree.unflatten(jax.tree.structure(abstract), leaves)
    progress, sums = (json.loads(metadata[name]) for name in (_PROGRESS, _SUMS))
    # Earlier versions did not tell the start.
    return _File(state, progress, sums, int(metadata.get(_START, "0")))


def _parts(state: Any) -> dict[str, np.ndarray]:
    """Copies of what this process's devices hold of each array, each part once."""
    shards = {
        _part_name(name, shard.index, array.shape): shard.data
        for name, array in by_name(state).items()
        for shard in array.addressable_shards
    }
    for shard in shards.values():
        shard.copy_to_host_async()
    # Copied: the next step writes over it, which on a CPU NumPy would look at. Row by row, as
    # safetensors writes the bytes as they lie.
    return {name: np.array(shard, order="C") for name, shard in shards.items()}


def _part_name(name: str, index: Span, shape: tuple[int, ...]) -> str:
    """The name of a part of an array, by where it lies in it."""
    spans = (part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
    return f"{name}@{','.join(f'{start}:{stop}' for start, stop in spans)}"
