"""Checkpoints of a run: weights, optimizer, data position and config together, by orbax.

They are written in the background and appear whole or not at all; a run restores onto any mesh
and number of processes. All processes call each function here; each writes its part of the arrays.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import ml_collections
import orbax.checkpoint as ocp

from vssflow_jax.parallel import distributed, stopping
from vssflow_jax.run import keeping
from vssflow_jax.run.step_folder import (
    CHECKSUMS,
    DamagedError,
    atomicity,
    checksums,
    orbax_path,
    read,
    short,
)
from vssflow_jax.run.writing import Barrier, check_room, own_bytes
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import move_tree

State = TypeVar("State")  # any tree of arrays
Found = tuple[State, dict[str, Any]]  # a state and its progress

# A checkpoint is written beside the last one; leave room for its metadata too.
_SPACE_MARGIN = 1.1
_POLL_SEC = 0.05


class Checkpoints(contextlib.AbstractContextManager["Checkpoints"]):
    """The checkpoints of one workdir; leaving the context waits for what is being written.

    Args:
      workdir: folder of the run; they lie in `checkpoints/`.
      keep: how many of the newest are kept when others are added; None opens them to be read.
      train: the `train` section of a config, for what is kept in addition (`keeping`).
    """

    def __init__(
        self,
        workdir: Path,
        keep: int | None = None,
        train: ml_collections.ConfigDict | None = None,
    ):
        self._path = (workdir / "checkpoints").absolute()
        if keep is None and not self._path.is_dir():
            raise UserError(f"no checkpoint in {self._path}; train first")
        self._barrier, self._given_up = Barrier(), False
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep and keeping.policy(keep, train, workdir),
            create=keep is not None,
            read_only=keep is None,
            async_options=ocp.options.AsyncOptions(barrier_sync_fn=self._barrier),
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
        if error and (distributed.is_loss(error) or self._given_up):
            return  # What is being written waits for a process that will not come.
        if error is None:
            self.wait()
        try:
            with self._clear_errors("write"):
                self._manager.wait_until_finished()
                self._manager.close()
        except UserError:
            # An error that is under way is the one to hear of, but for that of a disk, of which
            # this one tells more.
            if error is None or isinstance(error, OSError):
                raise

    @property
    def latest(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """Steps of all that are whole, by what orbax takes for it, in order."""
        return sorted(self._manager.all_steps())

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
        self.wait()
        if step == self.latest:
            return
        needed = int(_SPACE_MARGIN * sum(map(own_bytes, jax.tree.leaves(state))))
        lacking = ""
        try:
            check_room(self._path, needed)
        except OSError as error:
            lacking = f"no room for {needed / 1e6:.1f} MB ({error.strerror})"
        if not distributed.all_say(not lacking):
            raise UserError(self._failure(lacking or "another process has no room for its part"))
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

    def resume(
        self,
        abstract: State,
        newer: Callable[[int], tuple[int, Found[State]] | None] = lambda step: None,
    ) -> Found[State]:
        """The newest whole checkpoint, as `restore` gives it, to go on from.

        Damaged ones that are newer are set aside, in `damaged/` of the workdir, and told of.

        Args:
          abstract: as for `restore`.
          newer: gives the newest whole one, and its step, that lies elsewhere and is of a later
            step than this, if there is one.

        Raises:
          UserError: there is none, none is whole, or the newest is of another model.
        """
        damages: dict[int, DamagedError] = {}
        for step in self._steps():
            if elsewhere := newer(step):
                step, restored = elsewhere
                break
            try:
                restored = read(self._path / str(step), abstract)
                break
            except DamagedError as damage:
                damages[step] = damage
        else:
            elsewhere = newer(0)
            if elsewhere is None:
                newest = next(iter(damages.values()))
                raise UserError(
                    f"{newest}; no other one is whole: bring back a copy, or start anew in another "
                    "--workdir"
                )
            step, restored = elsewhere
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

    def check(self) -> None:
        """Hear, without waiting, of a write that has failed; comes after each step.

        Of several processes, which all have to stop after the same step, the one whose write has
        failed asks for that as SIGTERM does; the error is then raised by `save`, in all of them.

        Raises:
          UserError: what was saved could not be written.
        """
        if self._barrier.failure is None:
            return
        if jax.process_count() == 1:
            self.wait()
        elif not self._given_up:
            self._given_up = True
            stopping.ask()

    def wait(self) -> None:
        """Return when all that was saved is on the disk, by all processes.

        Raises:
          UserError: one of them could not write it.
        """
        if jax.process_count() > 1 and not self._all_written():
            self._given_up = True
            failure = self._barrier.failure
            reason = short(failure) if failure else "another process could not write its part"
            raise UserError(self._failure(f"could not write: {reason}")) from failure
        with self._clear_errors("write"):
            self._manager.wait_until_finished()

    def _all_written(self) -> bool:
        """Whether what is being written arrives; asked again until all processes know.

        Not by waiting for orbax, which waits for one that has failed for twenty minutes.
        """
        while distributed.all_say(self._barrier.failure is None):
            if distributed.all_say(not self._manager.is_saving_in_progress()):
                return distributed.all_say(self._barrier.failure is None)
            time.sleep(_POLL_SEC)
        return False

    @contextlib.contextmanager
    def _clear_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            if distributed.is_loss(error):
                raise
            raise UserError(self._failure(f"could not {what}: {short(error)}")) from error

    def _failure(self, reason: str) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._manager.reload()  # One that is being written would count.
        last = "none" if self.latest is None else f"step {self.latest}"
        return (
            f"checkpoints in {self._path}: {reason}; the last whole one is {last}; make room, or "
            "see to the disk, and run the same command again"
        )
