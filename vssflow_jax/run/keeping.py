"""Which checkpoints of a run are kept when others are added."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from orbax.checkpoint import checkpoint_managers

from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.parallel import distributed
from vssflow_jax.run.optimizer import keeps_mean
from vssflow_jax.run.workdir import HELD_OUT, read_metrics
from vssflow_jax.utils.checks import check_choice
from vssflow_jax.utils.errors import UserError

_NONE = -1


def check(train: ml_collections.ConfigDict) -> None:
    """Check that the checkpoints which a `train` section asks to keep can be.

    Raises:
      UserError: names the field that cannot be, and what it may be.
    """
    if train.keep_every % train.checkpoint_every:
        raise UserError(
            f"train.keep_every is {train.keep_every}, which is no multiple of "
            f"train.checkpoint_every, {train.checkpoint_every}: there is no checkpoint of that step"
        )
    if not train.keep_best:
        return
    columns = ("loss", *TASKS)
    means = [f"{name}_ema" for name in columns] if keeps_mean(train) else []
    check_choice("train.keep_best", train.keep_best, (*columns, *means))
    if not train.held_out_every:
        raise UserError(
            f"train.keep_best is '{train.keep_best}', which is measured every "
            "train.held_out_every steps, and that is 0, never; set it to train.checkpoint_every"
        )


def check_measured(train: ml_collections.ConfigDict) -> None:
    """Check that the loss of each checkpoint is measured where the best is to be kept.

    A run that was trained otherwise may still be used.

    Raises:
      UserError: it is measured at other steps.
    """
    if train.keep_best and train.checkpoint_every % train.held_out_every:
        raise UserError(
            f"train.keep_best is '{train.keep_best}', which is measured every "
            f"{train.held_out_every} steps (train.held_out_every), but checkpoints are written "
            f"every {train.checkpoint_every} (train.checkpoint_every): make this a multiple of that"
        )


def policy(
    keep: int, train: ml_collections.ConfigDict | None, workdir: Path
) -> checkpoint_managers.PreservationPolicy:
    """What orbax asks which checkpoints to keep.

    Args:
      keep: how many of the newest.
      train: the `train` section of a config, for those that are kept in addition.
      workdir: folder of the run.
    """
    policies: list[checkpoint_managers.PreservationPolicy] = [checkpoint_managers.LatestN(keep)]
    if train is not None and train.keep_every:
        policies.append(checkpoint_managers.EveryNSteps(train.keep_every))
    if train is not None and train.keep_best:
        policies.append(Best(workdir, train.keep_best))
    return checkpoint_managers.AnyPreservationPolicy(policies)


class Best:
    """Keeps the checkpoint of the least held-out loss, as the rows of the run have it.

    A checkpoint is written before its loss is measured, and stays, as the newest, until the next.

    Args:
      workdir: folder of the run.
      metric: column of `held_out.jsonl`.
    """

    def __init__(self, workdir: Path, metric: str):
        self._workdir, self._metric = workdir, metric

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether each is kept; see `checkpoint_managers.PreservationPolicy`."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = best_step(self._workdir, self._metric, steps) if distributed.is_main() else None
        best = distributed.of_main(_NONE if best is None else best)
        return [step == best for step in steps]


def best_step(workdir: Path, metric: str, steps: Collection[int]) -> int | None:
    """Of these steps the one of the least finite loss, the earliest if there are several.

    Args:
      workdir: folder of the run.
      metric: column of `held_out.jsonl`.
      steps: steps to choose from.

    Returns:
      the step; None if the loss of none of them is known.
    """
    losses = {
        int(row["step"]): row[metric]
        for row in read_metrics(workdir, HELD_OUT)
        if row["step"] in steps and math.isfinite(row.get(metric, math.nan))
    }
    return min(losses, key=lambda step: (losses[step], step), default=None)


def reasons(
    train: ml_collections.ConfigDict, workdir: Path, steps: Collection[int]
) -> dict[int, list[str]]:
    """Why each of these checkpoints of a run is kept, by the `train` section of its config."""
    best = best_step(workdir, train.keep_best, steps) if train.get("keep_best") else None
    every, newest = train.get("keep_every", 0), sorted(steps)[-train.keep_checkpoints :]
    found: dict[int, list[str]] = {}
    for step in steps:
        whys = {
            "newest": step in newest,
            f"every {every}": bool(every) and step % every == 0,
            "best": step == best,
        }
        found[step] = [why for why, holds in whys.items() if holds]
    return found
