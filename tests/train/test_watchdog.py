"""Stacks of a run that stands still: once a stall, and not where something takes its time."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from configs import demo
from tests import tiny
from vssflow_jax.config import check
from vssflow_jax.input_pipeline.prefetch import OnDevices
from vssflow_jax.run import run_config
from vssflow_jax.train.watchdog import Watchdog
from vssflow_jax.utils.errors import UserError

SHORT_SEC = 0.5


def stand_still() -> None:
    time.sleep(4 * SHORT_SEC)


@pytest.mark.parametrize("minutes", [SHORT_SEC / 60, 0.0])
def test_each_stall_is_told_once(minutes: float, capfd: pytest.CaptureFixture[str]) -> None:
    with Watchdog(minutes) as watchdog:
        stand_still()
        watchdog.step_ended()
        with watchdog.pause():
            stand_still()
        stand_still()
    stand_still()  # after its end
    assert capfd.readouterr().err.count("in stand_still") == 2 * bool(minutes)


class Slow:
    """An evaluator that takes longer than a step may."""

    every_steps = 2

    def __call__(self, *_: Any) -> Iterable[tuple[str, float]]:
        self.take_its_time()
        return ()

    def take_its_time(self) -> None:
        time.sleep(4 * SHORT_SEC)


def test_a_training_that_waits_for_data_shows_where_and_goes_on(
    demo_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    taken, take = [], OnDevices.__next__

    def late(batches: OnDevices) -> Any:
        taken.append(batches)
        if len(taken) == 3:
            stand_still()
        return take(batches)

    monkeypatch.setattr(OnDevices, "__next__", late)
    config = tiny.config(demo_data, train__steps=4, train__watchdog_minutes=SHORT_SEC / 60)
    assert tiny.train(config, tmp_path / "run", Slow())
    said = capfd.readouterr().err
    assert said.count("in stand_still") == 1
    assert "in take_its_time" not in said


def test_a_resumed_run_may_be_watched_otherwise(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    run_config.write(tmp_path, config)
    config.train.watchdog_minutes = 1.5
    run_config.check_resumable(tmp_path, config)


def test_less_than_nothing_is_no_time():
    config = demo.get_config()
    config.train.watchdog_minutes = -1.0
    with pytest.raises(UserError, match=r"train.watchdog_minutes is -1.0; it must be at least 0"):
        check(config)
