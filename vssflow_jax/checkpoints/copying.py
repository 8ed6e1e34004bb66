"""A run copied to another place, on a disk or in a bucket, to be used and gone on with there."""

from collections.abc import Sequence
from pathlib import Path

from vssflow_jax.run import run_config
from vssflow_jax.run.step_folder import COMMITTED
from vssflow_jax.utils import files
from vssflow_jax.utils.errors import UserError

_ROWS = "*.jsonl"


def copy_run(run: Path, target: Path, steps: Sequence[int]) -> None:
    """Copy the config of a run, its rows, and the checkpoints of some steps.

    A copy that was cut short goes on: steps that are there are not copied again.

    Raises:
      UserError: another run is there.
    """
    config = run_config.CONFIG
    if (target / config).exists() and (target / config).read_text() != (run / config).read_text():
        raise UserError(f"{target} holds another run; choose another --copy or remove it")
    for step in steps:
        _copy_step(*(path / run_config.CHECKPOINTS / str(step) for path in (run, target)))
    for path in [*sorted(run.glob(_ROWS)), run / config]:
        files.copy(path, target / path.name)


def _copy_step(source: Path, target: Path) -> None:
    """Copy a checkpoint so that it is whole for whoever reads it there, or not there at all."""
    if (target / COMMITTED).exists():
        return
    if files.bucket_path(target):
        _copy_files(source, target)
        return
    files.remove_tree(target)
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
    files.write_atomically(target / COMMITTED, f"copied from {source}")
