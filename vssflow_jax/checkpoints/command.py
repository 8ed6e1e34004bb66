"""The checkpoints of a run: list them, read them through, copy them to another place:

python -m vssflow_jax.checkpoints RUN
python -m vssflow_jax.checkpoints RUN --verify
python -m vssflow_jax.checkpoints RUN --copy=gs://BUCKET/runs/base --steps=4000,8000

RUN is used where it is copied to as it is here: it is evaluated, or gone on with.
"""

import datetime
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from absl import flags

from vssflow_jax.checkpoints.copying import copy_run, remove_copied
from vssflow_jax.parallel import distributed
from vssflow_jax.run import keeping, run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.step_folder import commit_time, damages, size
from vssflow_jax.run.workdir import HELD_OUT, read_metrics
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

_SHOWN = "loss"  # where no metric is kept by


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """The flags of the command."""
    flags.DEFINE_bool("verify", False, "read every array, compare its checksum", flag_values=values)
    flags.DEFINE_string("copy", "", "path to copy the run to", flag_values=values)
    flags.DEFINE_list("steps", [], "those that are meant; all, if none", flag_values=values)


def main(argv: list[str], values: flags.FlagValues = flags.FLAGS) -> None:
    """See the module's docstring."""
    run = as_path(argv[1])
    distributed.start()
    with Checkpoints(run) as checkpoints:
        there = checkpoints.steps
    steps = _chosen(run, there, values.steps)
    if values.verify and values.copy:
        raise UserError("--verify and --copy are given, but a copy is verified anyway; give one")
    if (values.verify or values.copy) and not steps:
        raise UserError(f"{run} has no whole checkpoint")
    if values.verify:
        if damaged := verify(run, steps):
            raise UserError(f"damaged in {run}: {_named(damaged)}; bring back a copy")
    elif values.copy:
        target = as_path(values.copy)
        copy_run(run, target, steps)
        _check_copy(target, steps)
        print(f"copied {_named(steps)} of {run} to {target}")
    else:
        for line in table(run, steps):
            print(line)
        for name in unfinished(run, there):
            print(f"not whole: {name}, which is being written or was cut short")


def _check_copy(target: Path, steps: Sequence[int]) -> None:
    """Verify copied steps, and remove those that are damaged so that they can be copied anew.

    Raises:
      UserError: some are.
    """
    damaged = verify(target, steps)
    removed = [
        step for step in damaged if remove_copied(target / run_config.CHECKPOINTS / str(step))
    ]
    if removed:
        raise UserError(
            f"damaged on the way to {target}, and removed there: {_named(removed)}; verify the "
            "run itself and give the command again"
        )
    if damaged:
        raise UserError(f"damaged in {target}: {_named(damaged)}; remove them and copy again")


def _chosen(run: Path, there: Sequence[int], given: Sequence[str]) -> list[int]:
    """The steps that are given, or all.

    Raises:
      UserError: one is no number, or has no checkpoint.
    """
    for step in given:
        if not (step.isdigit() and int(step) in there):
            raise UserError(f"--steps: no checkpoint of step {step} in {run}; {_named(there)} are")
    return sorted({int(step) for step in given} or there)


def _named(steps: Collection[int]) -> str:
    return f"{'step' if len(steps) == 1 else 'steps'} {', '.join(map(str, sorted(steps)))}"


def verify(run: Path, steps: Sequence[int]) -> list[int]:
    """Read these steps through; a line for each that is damaged, on stderr; and which are."""
    damaged = []
    for step in steps:
        folder = run / run_config.CHECKPOINTS / str(step)
        if found := damages(folder):
            damaged.append(step)
            print(f"{folder} is damaged: {'; '.join(found)}", file=sys.stderr)
        else:
            print(f"{folder} is whole")
    return damaged


def table(run: Path, steps: Sequence[int]) -> list[str]:
    """A header and a line for each step, columns by two spaces."""
    train = run_config.read(run).train
    metric = train.get("keep_best") or _SHOWN
    losses = {int(row["step"]): row.get(metric) for row in read_metrics(run, HELD_OUT)}
    why = keeping.reasons(train, run, steps)
    rows = [("step", "written", "MB", f"held-out {metric}", "kept as")]
    for step in steps:
        folder = run / run_config.CHECKPOINTS / str(step)
        loss = losses.get(step)
        rows.append(
            (
                str(step),
                _time(commit_time(folder)),
                f"{size(folder) / 1e6:.1f}",
                "" if loss is None else f"{loss:.4f}",
                ", ".join(why[step]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(field.ljust(width) for field, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def unfinished(run: Path, there: Collection[int]) -> list[str]:
    """Names of what lies among the checkpoints of a run and is none, `there` being those."""
    names = {path.name for path in (run / run_config.CHECKPOINTS).iterdir()}
    begun = {name for name in names if name.partition(".")[0].isdigit()}
    return sorted(begun - {*map(str, there)})


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
