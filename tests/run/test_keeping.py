"""Which checkpoints stay when others are added, and which are never thrown away."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_collections
import pytest

from vssflow_jax.run import keeping
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.workdir import HELD_OUT, MetricsLog
from vssflow_jax.utils.errors import UserError

LOSSES = {2: 0.9, 4: 0.5, 6: float("nan"), 8: 0.7, 10: 0.6, 12: 0.5}


def section(**fields: Any) -> ml_collections.ConfigDict:
    defaults = {"keep_every": 0, "keep_best": "", "checkpoint_every": 2, "held_out_every": 2}
    return ml_collections.ConfigDict({**defaults, "optimizer": "adamw", "ema_decay": 0.9, **fields})


def train_on(workdir: Path, steps: Sequence[int], keep: int, **fields: Any) -> list[int]:
    """Save these steps, each measured after it was saved as in training; the steps that stay."""
    with Checkpoints(workdir, keep, section(**fields)) as checkpoints:
        for step in steps:
            checkpoints.save(step, {"w": jnp.full(3, step)}, {}, {})
            with MetricsLog(workdir, HELD_OUT) as log:
                log.write({"step": step, "loss_ema": LOSSES[step], "loss": -LOSSES[step]})
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def test_the_newest_stay(tmp_path: Path) -> None:
    assert train_on(tmp_path, [2, 4, 6, 8], keep=2) == [6, 8]


def test_those_of_every_so_many_steps_stay(tmp_path: Path) -> None:
    assert train_on(tmp_path, [2, 4, 6, 8, 10], keep=1, keep_every=4) == [4, 8, 10]


def test_the_best_stays_after_a_resume_and_as_long_as_none_is_better(tmp_path: Path) -> None:
    best = {"keep": 1, "keep_best": "loss_ema"}
    assert train_on(tmp_path, [2, 4, 6], **best) == [4, 6]
    assert train_on(tmp_path, [8], **best) == [4, 8]
    # One as good does not take its place.
    assert train_on(tmp_path, [10, 12], **best) == [4, 12]
    assert keeping.best_step(tmp_path, "loss", [2, 4, 8]) == 2


def test_a_step_that_was_run_again_counts_by_its_last_row(tmp_path: Path) -> None:
    best = {"keep": 1, "keep_best": "loss_ema"}
    train_on(tmp_path, [2, 4], **best)
    with MetricsLog(tmp_path, HELD_OUT) as log:
        log.write({"step": 4, "loss_ema": 2.0})
    assert train_on(tmp_path, [8], **best) == [2, 8]
    assert keeping.best_step(tmp_path, "loss_ema", [2, 4, 8]) == 8
    assert keeping.best_step(tmp_path, "tts_ema", [2, 4, 8]) is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"keep_every": 3}, "train.keep_every is 3, which is no multiple of .* 2"),
        ({"keep_best": "lose"}, "train.keep_best is 'lose'; choose one of: loss, .*loss_ema"),
        ({"keep_best": "loss_ema", "ema_decay": 0.0}, "train.keep_best is 'loss_ema'; choose"),
        ({"keep_best": "loss", "held_out_every": 0}, "and that is 0, never"),
    ],
)
def test_what_cannot_be_kept_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        keeping.check(section(**fields))


def test_a_best_that_is_not_measured_is_not_trained_for_but_used() -> None:
    train = section(keep_best="loss", held_out_every=4)
    keeping.check(train)
    with pytest.raises(UserError, match=r"every 4 steps .* every 2 .*make this a multiple of that"):
        keeping.check_measured(train)
