"""A run copied to another place, on a disk or in a bucket, to be used and gone on with there."""

from collections.abc import Sequence
from pathlib import Path

from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.step_folder import COMMITTED
from vssflow_jax.utils import files
from vssflow_jax.utils.errors import UserError

_ROWS = "*.jsonl"
_COPIED = "copied from"  # how the mark of a copy begins


def copy_run(run: Path, target: Path, steps: Sequence[int]) -> None:
    """Copy the config of a run, its rows, and the checkpoints of some steps.

    A copy that was cut short goes on: steps that are there are not copied again.

    Raises:
      UserError: the run itself, another run, or one that has gone further is there.
    """
    config = run_config.CONFIG
    if target.resolve() == run.resolve():
        raise UserError(f"--copy={target} is the run itself; choose another place")
    # First, so that a copy that was cut short says of which run it is.
    if not (target / config).exists():
        target.mkdir(parents=True, exist_ok=True)
        files.copy(run / config, target / config)
    elif (target / config).read_text() != (run / config).read_text():
        raise UserError(f"{target} holds another run; choose another --copy or remove it")
    here, there = _newest(run), _newest(target)
    if there > here:
        raise UserError(
            f"{target} has gone on to step {there}, and {run} ends at {here}; choose another --copy"
        )
    for step in steps:
        _copy_step(*(path / run_config.CHECKPOINTS / str(step) for path in (run, target)))
    for path in sorted(run.glob(_ROWS)):
        files.copy(path, target / path.name)


def remove_copied(step: Path) -> bool:
    """Remove the folder of a checkpoint if it is one that was copied, and say whether it was."""
    mark = step / COMMITTED
    copied = mark.exists() and mark.read_text().startswith(_COPIED)
    if copied:
        files.discard(step)
    return copied


def _newest(run: Path) -> int:
    """Its newest step, 0 if it has none."""
    if not (run / run_config.CHECKPOINTS).is_dir():
        return 0
    with Checkpoints(run) as checkpoints:
        return max(checkpoints.steps, default=0)


def _copy_step(source: Path, target: Path) -> None:
    """Copy a checkpoint so that it is whole for whoever reads it there, or not there at all."""
    if files.bucket_path(target):
        if not (target / COMMITTED).exists():
            _copy_files(source, target)
    elif not target.exists():
        with files.whole_tree(target) as partial:
            _copy_files(source, partial)


def _copy_files(source: Path, target: Path) -> None:
    """Copy all files, and write last the one that says in a bucket that the others are there.

    A checkpoint of a disk may lack that.
    """
    for path in source.rglob("*"):
        if path.is_file() and path.name != COMMITTED:
            copied = target / str(path.relative_to(source))
            copied.parent.mkdir(parents=True, exist_ok=True)
            files.copy(path, copied)
    files.write_atomically(target / COMMITTED, f"{_COPIED} {source}")
