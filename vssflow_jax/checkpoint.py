"""Checkpoints of a run: weights, optimizer, data position and config together, by orbax.

They are written in the background and appear whole or not at all; a run restores onto any mesh
and number of processes. All processes call each function here; each writes its part of the arrays.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from vssflow_jax import hosts
from vssflow_jax.errors import UserError

State = TypeVar("State")  # any tree of arrays

# A checkpoint is written beside the last one; leave room for its metadata too.
_SPACE_MARGIN = 1.1
_LONGEST_REASON = 200


class Checkpoints(contextlib.AbstractContextManager["Checkpoints"]):
    """The checkpoints of one workdir; leaving the context waits for what is being written.

    Args:
      workdir: of the run; they lie in `checkpoints/`.
      keep: how many of the newest are kept when others are added; None opens them to be read.
    """

    def __init__(self, workdir: Path, keep: int | None = None):
        self._path = (workdir / "checkpoints").absolute()
        if keep is None and not self._path.is_dir():
            raise UserError(f"no checkpoint in {self._path}; train first")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=keep is not None, read_only=keep is None
        )
        try:
            self._manager = ocp.CheckpointManager(self._path, options=options)
        except (OSError, ValueError, RuntimeError) as error:
            if hosts.is_loss(error):
                raise
            reason = _short(error)
            raise UserError(f"checkpoints in {self._path} could not be opened: {reason}") from error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error and hosts.is_loss(error):
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
          state: of the run.
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
        with self._clear_errors(f"write step {step}"):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    progress=ocp.args.JsonSave(progress),
                    config=ocp.args.JsonSave(config),
                ),
            )

    def restore(self, abstract: State, step: int | None = None) -> tuple[State, dict[str, Any]]:
        """The checkpoint of a step, placed as `abstract` says, and its progress.

        Args:
          abstract: shapes, dtypes and shardings of the state.
          step: of the checkpoint; the newest, if None.

        Raises:
          UserError: there is none, or it does not fit `abstract`.
        """
        there = sorted(self._manager.all_steps())
        if not there:
            raise UserError(f"no checkpoint in {self._path}; train first")
        step = there[-1] if step is None else step
        if step not in there:
            steps = ", ".join(map(str, there))
            raise UserError(f"no checkpoint of step {step} in {self._path}; there are {steps}")
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), progress=ocp.args.JsonRestore()
                ),
            )
        except Exception as error:  # Of damaged files orbax and tensorstore raise anything.
            if hosts.is_loss(error):
                raise
            raise UserError(
                f"checkpoint {self._path / str(step)} is damaged, or does not fit this config's "
                f"model: {_short(error)}"
            ) from error
        return restored.state, restored.progress

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
            if hosts.is_loss(error):
                raise
            raise UserError(self._failure(f"could not {what}: {_short(error)}")) from error

    def _failure(self, reason: str) -> str:
        last = "none" if self.latest is None else f"step {self.latest}"
        return (
            f"checkpoints in {self._path}: {reason}; the last whole one is {last}; make room "
            "and run the same command again"
        )


def _short(error: Exception) -> str:
    """What an error of the libraries below says, without their pages of context."""
    return " ".join(str(error).split())[:_LONGEST_REASON] or repr(error)


def _own_bytes(array: jax.Array) -> int:
    """Of an array's bytes those that this process writes."""
    return sum(x.data.nbytes for x in array.addressable_shards if x.replica_id == 0)


def _check_room(directory: Path, size: int) -> None:
    """See that `size` bytes can be written below `directory`, by setting them aside for a moment.

    Raises:
      OSError: they cannot: the disk is full, or a quota or limit stands in the way.
    """
    if not size:
        return  # as of a process whose devices hold what others write
    with tempfile.TemporaryFile(dir=directory) as probe:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(probe.fileno(), 0, size)
        elif shutil.disk_usage(directory).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
