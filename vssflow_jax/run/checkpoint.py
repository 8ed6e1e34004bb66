"""Checkpoints of a run: weights, optimizer, data position and config together, by orbax.

They are written in the background and appear whole or not at all; a run restores onto any mesh
and number of processes. All processes call each function here; each writes its part of the arrays.
"""

import contextlib
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from vssflow_jax.parallel import distributed
from vssflow_jax.run.step_folder import (
    CHECKSUMS,
    DamagedError,
    atomicity,
    checksums,
    orbax_path,
    read,
    short,
)
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import bucket_path, move_tree

State = TypeVar("State")  # any tree of arrays

# A checkpoint is written beside the last one; leave room for its metadata too.
_SPACE_MARGIN = 1.1


class Checkpoints(contextlib.AbstractContextManager["Checkpoints"]):
    """The checkpoints of one workdir; leaving the context waits for what is being written.

    Args:
      workdir: folder of the run; they lie in `checkpoints/`.
      keep: how many of the newest are kept when others are added; None opens them to be read.
    """

    def __init__(self, workdir: Path, keep: int | None = None):
        self._path = (workdir / "checkpoints").absolute()
        if keep is None and not self._path.is_dir():
            raise UserError(f"no checkpoint in {self._path}; train first")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=keep is not None,
            read_only=keep is None,
            atomicity_options=atomicity(self._path),
        )
        try:
            self._manager = ocp.CheckpointManager(orbax_path(self._path), options=options)
        except (OSError, ValueError, RuntimeError) as error:
            if distributed.is_loss(error):
                raise
            reason = short(error)
            raise UserError(f"checkpoints in {self._path} could not be opened: {reason}") from error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error and distributed.is_loss(error):
            return  # What is being written waits for the lost process.
        # An error that is under way is the one to hear of.
        with contextlib.suppress(UserError) if error else contextlib.nullcontext():
            self.wait()
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, progress: dict[str, Any], config: dict) -> None:
        """Write a checkpoint in the background; returns once the state may change again.

        Args:
          step: steps done.
          state: state of the run.
          progress: JSON: the position in the data and timers.
          config: JSON: the resolved config.

        Raises:
          UserError: too little room on the disk, or an earlier write failed.
        """
        if step == self.latest:
            return
        needed = int(_SPACE_MARGIN * sum(map(_own_bytes, jax.tree.leaves(state))))
        try:
            _check_room(self._path, needed)
        except OSError as error:
            reason = f"no room for {needed / 1e6:.1f} MB ({error.strerror})"
            raise UserError(self._failure(reason)) from error
        sums = checksums(state)
        with self._clear_errors(f"write step {step}"):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    progress=ocp.args.JsonSave(progress | {CHECKSUMS: sums}),
                    config=ocp.args.JsonSave(config),
                ),
            )

    def restore(self, abstract: State, step: int | None = None) -> tuple[State, dict[str, Any]]:
        """The checkpoint of a step, placed as `abstract` says, and its progress.

        Args:
          abstract: shapes, dtypes and shardings of the state, or, a dict, of some of its fields by
            name; what is not asked for is not read.
          step: step of the checkpoint; the newest, if None.

        Raises:
          UserError: there is none, it is of another model, or it is damaged; then the newest whole
            one is named.
        """
        there = self._steps()
        step = there[0] if step is None else step
        if step not in there:
            steps = ", ".join(map(str, sorted(there)))
            raise UserError(f"no checkpoint of step {step} in {self._path}; there are {steps}")
        try:
            return read(self._path / str(step), abstract)
        except DamagedError as damage:
            others = [other for other in there if other != step]
            whole = self._newest_whole(abstract, others)
            raise UserError(
                f"{damage}; no other one is whole: bring back a copy"
                if whole is None
                else f"{damage}; the newest whole one is {self._path / str(whole)}"
            ) from damage

    def resume(self, abstract: State) -> tuple[State, dict[str, Any]]:
        """The newest whole checkpoint, as `restore` gives it, to go on from.

        Damaged ones that are newer are set aside, in `damaged/` of the workdir, and told of.

        Raises:
          UserError: there is none, none is whole, or the newest is of another model.
        """
        damages: dict[int, DamagedError] = {}
        for step in self._steps():
            try:
                restored = read(self._path / str(step), abstract)
                break
            except DamagedError as damage:
                damages[step] = damage
        else:
            newest = next(iter(damages.values()))
            raise UserError(
                f"{newest}; no other one is whole: bring back a copy, or start anew in another "
                "--workdir"
            )
        for damaged, why in damages.items():
            self._set_aside(damaged, f"{why}; going on from step {step}")
        return restored

    def _steps(self) -> list[int]:
        """Steps that have a checkpoint, the newest first.

        Raises:
          UserError: the run has no checkpoint.
        """
        there = sorted(self._manager.all_steps(), reverse=True)
        if not there:
            raise UserError(f"no checkpoint in {self._path}; train first")
        return there

    def _newest_whole(self, abstract: State, steps: Iterable[int]) -> int | None:
        for step in steps:
            with contextlib.suppress(DamagedError):
                read(self._path / str(step), abstract)
                return step
        return None

    def _set_aside(self, step: int, why: str) -> None:
        if distributed.is_main():
            print(f"warning: {why}", file=sys.stderr)
            aside = self._path.with_name("damaged") / str(step)
            while aside.exists():
                aside = aside.with_name(f"{aside.name}.again")
            move_tree(self._path / str(step), aside)
        distributed.wait_for_all(f"checkpoint {step} set aside")
        self._manager.reload()

    def wait(self) -> None:
        """Return when all that was saved is on the disk.

        Raises:
          UserError: it could not be written.
        """
        with self._clear_errors("write"):
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _clear_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            if distributed.is_loss(error):
                raise
            raise UserError(self._failure(f"could not {what}: {short(error)}")) from error

    def _failure(self, reason: str) -> str:
        last = "none" if self.latest is None else f"step {self.latest}"
        return (
            f"checkpoints in {self._path}: {reason}; the last whole one is {last}; make room "
            "and run the same command again"
        )


def _own_bytes(array: jax.Array) -> int:
    """Of an array's bytes those that this process writes."""
    return sum(x.data.nbytes for x in array.addressable_shards if x.replica_id == 0)


def _check_room(directory: Path, size: int) -> None:
    """Checks that `size` bytes can be written below `directory`, by setting them aside for a
    moment.

    Raises:
      OSError: they cannot: the disk is full, or a quota or limit stands in the way.
    """
    if not size or bucket_path(directory):
        return  # as of a process whose devices hold what others write; a bucket is never full
    with tempfile.TemporaryFile(dir=directory) as probe:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(probe.fileno(), 0, size)
        elif shutil.disk_usage(directory).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
