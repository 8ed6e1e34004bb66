"""Speed and goodput by a clock of the tests' own, and in a real run; traces of chosen steps."""

import dataclasses
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from configs import demo
from tests import tiny
from vssflow_jax.config import check
from vssflow_jax.run import run_config
from vssflow_jax.train.goodput import Goodput, Startup
from vssflow_jax.train.throughput import StepTimes, Throughput
from vssflow_jax.utils.errors import UserError

KEYS = {
    "step",
    "steps_per_sec",
    "examples_per_sec",
    "tflops_per_sec",
    "data_wait",
    "bad_records",
    "bad_steps",
    "elapsed_sec",
    "goodput",
    "badput",
}


@dataclasses.dataclass
class FakeTime:
    """Seconds that pass when told to; both clocks of a `Throughput`."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def throughput(
    time: FakeTime,
    goodput: Goodput | None = None,
    startup: Startup | None = None,
    peak_flops: float | None = None,
) -> Throughput:
    """Of batches of 8 clips, 2 TFLOP a step."""
    return Throughput(
        goodput or Goodput(time.now),
        startup or Startup(unix_time=time),
        clips=8,
        peak_flops=peak_flops,
        clock=time,
        unix_time=time,
    )


def step(meter: Throughput, time: FakeTime, *, wait: float = 0.0, work: float = 1.0) -> None:
    """A step whose batch takes `wait` seconds after the step before, and the devices `work`."""
    asked = time.now
    called = time.now = asked + wait
    time.now += work
    meter.add(StepTimes(asked, called, time.now, flops=2 * 10**12))


def test_a_step_that_is_not_kept_is_time_lost():
    time = FakeTime()
    meter = throughput(time)
    step(meter, time)
    step(meter, time)
    begun = time.now
    time.now += 3
    meter.add(StepTimes(begun, begun, time.now, flops=2 * 10**12), kept=False)
    step(meter, time)
    row = meter.row()
    assert row["steps_per_sec"] == 1  # of two steps of a second each
    assert row["goodput"] == 2 / 6
    assert row["badput"] == pytest.approx(
        {"first_batch": 0, "first_step": 1 / 6, "data_wait": 0, "dropped": 3 / 6, "other": 0}
    )


def test_the_first_step_is_not_counted():
    time = FakeTime()
    meter = throughput(time)
    step(meter, time, work=300.0)  # it is compiled
    assert meter.row() == {}
    for _ in range(4):
        step(meter, time, work=0.5)
    row = meter.row()
    assert row["steps_per_sec"] == 2.0
    assert row["examples_per_sec"] == 16.0
    assert row["tflops_per_sec"] == 4.0
    assert row["data_wait"] == 0.0
    assert row["goodput"] == 2.0 / 302.0
    assert "mfu" not in row  # nobody knows what a CPU could do at best


def test_a_row_is_of_the_steps_since_the_last():
    time = FakeTime()
    meter = throughput(time, peak_flops=8e12)
    for work in (9.0, 1.0, 1.0):
        step(meter, time, work=work)
    assert meter.row()["mfu"] == 0.25
    assert meter.row() == {}
    step(meter, time, work=0.5)
    assert meter.row()["mfu"] == 0.5


def test_waiting_for_data_slows_the_run_and_does_no_good():
    time = FakeTime()
    meter = throughput(time)
    step(meter, time)
    for _ in range(2):
        step(meter, time, wait=3.0, work=1.0)
    row = meter.row()
    assert row["steps_per_sec"] == 0.25
    assert row["data_wait"] == 0.75
    assert row["goodput"] == 2.0 / 9.0
    assert row["badput"]["data_wait"] == 6.0 / 9.0


def test_a_batch_that_comes_while_the_devices_work_costs_nothing():
    meter = throughput(FakeTime(), Goodput(started_sec=0.0))
    meter.add(StepTimes(asked=0.0, called=0.0, done=10.0))
    meter.add(StepTimes(asked=1.0, called=9.0, done=12.0))
    assert meter.row()["data_wait"] == 0.0
    meter.add(StepTimes(asked=10.0, called=13.0, done=16.0))  # one second of three too late
    assert meter.row()["data_wait"] == 1.0 / 4.0
    assert meter.goodput.productive_sec == 2.0 + 3.0


def test_saving_is_no_part_of_the_speed_but_of_the_time():
    time = FakeTime()
    meter = throughput(time)
    step(meter, time)
    step(meter, time)
    with meter.pause("save"):
        time.now += 7.0
    step(meter, time)
    row = meter.row()
    assert row["steps_per_sec"] == 1.0
    assert row["goodput"] == 2.0 / 10.0
    assert row["badput"]["save"] == 7.0 / 10.0


def test_steps_lost_to_a_kill_were_for_nothing():
    time = FakeTime()
    killed = throughput(time)
    for _ in range(5):
        step(killed, time)
    saved = Goodput(**json.loads(json.dumps(dataclasses.asdict(killed.goodput))))
    assert saved.elapsed_sec == 5.0
    for _ in range(3):
        step(killed, time)
    seen_sec = time.now
    time.now += 90.0  # nobody there

    again = throughput(time, saved.until(time.now, seen_sec))
    assert again.share == 4.0 / 98.0
    for _ in range(3):
        step(again, time)
    assert again.share == 6.0 / 101.0
    assert again.elapsed_sec == 101.0
    goodput = again.goodput
    assert (goodput.started_sec, goodput.productive_sec) == (1000.0, 6.0)
    lost_sec = {"undone": 3, "absent": 90, "first_step": 2}  # a first step of both processes
    assert {cause: sec for cause, sec in goodput.lost_sec.items() if sec} == lost_sec


def test_a_start_is_told_by_part_once_and_lost():
    time = FakeTime()
    began_sec = time.now
    time.now += 2.0
    startup = Startup(began_sec, unix_time=time)
    startup.parts["imports"] = 2.0
    time.now += 1.0  # of no part
    for seconds in (3.0, 1.0):
        with startup.part("dataset"):
            time.now += seconds
    meter = throughput(time, Goodput(began_sec), startup)
    with startup.part("compile"):
        time.now += 20.0
    assert meter.startup() is None
    step(meter, time, wait=0.5, work=2.5)
    time.now += 1.0
    expected = {"imports": 2, "dataset": 4, "compile": 20, "first_batch": 0.5, "first_step": 2.5}
    assert meter.startup() is startup
    assert meter.startup() is None
    assert startup.parts == {**expected, "other": 1.0}
    assert str(startup) == (
        "started in 30.0 s: imports 2.0, dataset 4.0, compile 20.0, first batch 0.5, "
        "first step 2.5, other 1.0"
    )
    # The second after the first step belongs to nothing either.
    assert meter.goodput.lost_sec == {**expected, "other": 2.0}
    assert meter.goodput.elapsed_sec == meter.elapsed_sec == 31.0


@pytest.mark.parametrize(
    ("seen_sec", "undone", "absent"),
    [(1007.0, 2, 3), (1000.0, 0, 5), (1050.0, 5, 0)],  # a row before it, and a clock that is ahead
)
def test_what_was_between_a_checkpoint_and_the_next_start(
    seen_sec: float, undone: float, absent: float
):
    saved = Goodput(1000.0, 1.0, {"compile": 4.0, "absent": 0.0})
    lost_sec = {"compile": 4.0, "undone": undone, "absent": absent}
    assert saved.until(1010.0, seen_sec) == Goodput(1000.0, 1.0, lost_sec)


def test_a_checkpoint_of_an_earlier_version_does_not_tell_its_causes():
    time = FakeTime(1100.0)
    saved = Goodput(**{"started_sec": 1000.0, "productive_sec": 60.0})
    meter = throughput(time, saved.until(1100.0, 1080.0))
    step(meter, time)
    step(meter, time)
    row = meter.row()
    assert row["goodput"] == 61 / 102
    assert row["badput"]["first_step"] == 1 / 102
    assert row["badput"]["other"] == 40 / 102


def test_the_age_of_a_process_counts_its_imports() -> None:
    code = "import time; time.sleep(0.5); from vssflow_jax.utils import processes; "
    done = tiny.run([sys.executable, "-c", f"{code} print(processes.age_sec())"])
    assert done.returncode == 0, done.stderr
    assert 0.5 <= float(done.stdout) < 300


def test_watching_a_step_notes_when_it_is_done():
    time = FakeTime()
    with throughput(time) as meter:
        result = jax.jit(jnp.sin)(jnp.ones(3))
        time.now += 5.0
        times = meter.watch(1001.0, 1002.0, 7, result).result(timeout=60)
    assert times == StepTimes(1001.0, 1002.0, 1005.0, 7)


def rows(workdir: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / name).read_text().splitlines()]


def test_a_real_run_and_its_trace(demo_data: Path, tmp_path: Path) -> None:
    plain, traced = tmp_path / "plain", tmp_path / "traced"
    changes = {"train__steps": 6, "train__checkpoint_every": 3}
    assert tiny.train(tiny.config(demo_data, **changes), plain)
    assert tiny.train(tiny.config(demo_data, **changes, profile=(3, 4)), traced)

    start, *speeds = rows(plain, "throughput.jsonl")
    assert start["step"] == 1
    parts = {"dataset", "restore", "compile", "first_batch", "first_step", "other"}
    assert set(start["startup_sec"]) == parts
    assert [speed["step"] for speed in speeds] == [2, 3, 4, 5, 6]
    assert all(set(speed) == KEYS for speed in speeds)
    assert all(speed["examples_per_sec"] > 0 for speed in speeds)
    assert all(0 <= speed["data_wait"] <= 1 and 0 < speed["goodput"] < 1 for speed in speeds)
    assert all(sum(row["badput"].values()) + row["goodput"] == pytest.approx(1) for row in speeds)
    assert speeds[-1]["badput"]["save"] > 0
    saved = json.loads((plain / "checkpoints" / "6" / "progress" / "metadata").read_text())
    goodput = Goodput(**saved["account"])
    assert goodput.productive_sec > 0
    assert goodput.lost_sec["compile"] == start["startup_sec"]["compile"]

    # Neither the times nor a trace touch what was computed.
    metrics = (plain / "metrics.jsonl").read_bytes()
    assert metrics == (traced / "metrics.jsonl").read_bytes()
    assert set(rows(plain, "metrics.jsonl")[0]).isdisjoint(KEYS - {"step"})
    assert not (plain / "profile").exists()
    (trace,) = (traced / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 0


class Asks:
    """An evaluator that asks for a trace."""

    every_steps = 4

    def __call__(self, *_: Any) -> Iterable[tuple[str, float]]:
        time.sleep(1.1)  # traces of one second have one name
        os.kill(os.getpid(), signal.SIGUSR1)
        return ()


def test_a_signal_has_the_next_steps_traced_each_time(
    demo_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The second time what is asked for is cut short by the end.
    config = tiny.config(demo_data, train__steps=12, profile=(2, 3))
    assert tiny.train(config, tmp_path, Asks())
    told = re.findall(r"steps (\d+ to \d+) are traced", capsys.readouterr().err)
    assert told == ["2 to 3", "5 to 9", "10 to 14"]
    traced = sorted(
        (tmp_path / "profile").rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime
    )
    assert list(map(steps_of, traced)) == [[2, 3], [5, 6, 7, 8, 9], [10, 11, 12]]
    assert [row["step"] for row in rows(tmp_path, "metrics.jsonl")] == list(range(1, 13))
    assert rows(tmp_path, "throughput.jsonl")[-1]["badput"]["profile"] > 0
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def steps_of(trace: Path) -> list[int]:
    """Numbers of the steps that a trace is of."""
    planes = jax.profiler.ProfileData.from_file(str(trace)).planes
    events = [event for plane in planes for line in plane.lines for event in line.events]
    return sorted({dict(x.stats)["step_num"] for x in events if x.name == "train"})


def test_a_run_that_went_on_knows_what_it_lost(demo_data: Path, tmp_path: Path) -> None:
    config = tiny.config(demo_data, train__steps=4, train__checkpoint_every=2)
    assert tiny.train(config, tmp_path)
    first = rows(tmp_path, "throughput.jsonl")
    shutil.rmtree(tmp_path / "checkpoints" / "4")
    assert tiny.train(config, tmp_path)
    again = rows(tmp_path, "throughput.jsonl")[len(first) :]
    assert [set(row) for row in again] == [{"step", "startup_sec"}, KEYS]
    elapsed_sec, badput = again[-1]["elapsed_sec"], again[-1]["badput"]
    assert elapsed_sec > first[-1]["elapsed_sec"]
    starts = [row["startup_sec"]["compile"] for row in (first[0], again[0])]
    assert badput["compile"] * elapsed_sec == pytest.approx(sum(starts))
    assert badput["undone"] > 0
    assert badput["absent"] > 0
    assert sum(badput.values()) + again[-1]["goodput"] == pytest.approx(1)


def test_a_resumed_run_may_be_traced(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    run_config.write(tmp_path, config)
    config.profile = (1, 2)
    run_config.check_resumable(tmp_path, config)


@pytest.mark.parametrize("steps", [(5,), (0, 2), (3, 2), (2, 6), (1, 2, 3), ("a", "b"), (1.0, 2.0)])
def test_steps_that_cannot_be_traced_are_one_clear_line(steps: tuple[object, ...]):
    config = demo.get_config()
    config.train.steps = 5
    config.profile = steps
    with pytest.raises(UserError, match=r"profile is .*; give the first and the last step"):
        check(config)
