"""Bad steps: dropped, named, and the run as if they had never been."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tests import bad_batch, tiny
from tests.jobs import launch
from tests.train.test_loop import assert_same_arrays, final_state, start
from vssflow_jax.run.experiment import RECENT_STEPS, Experiment
from vssflow_jax.run.workdir import BAD_STEPS, read_metrics, rows
from vssflow_jax.train.bad_steps import BadSteps, Rewind, is_good, limit
from vssflow_jax.train.step import make_train_step
from vssflow_jax.utils.errors import UserError

STEPS = 7


@pytest.fixture(scope="module")
def runs(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the folders of runs, on one device."""
    out = tmp_path_factory.mktemp("runs")
    for name in bad_batch.RUNS:
        bad_batch.train(demo_data, out / name, name)
    return out


def assert_same(found: Path, expected: Path) -> None:
    """Rows and last state, bit for bit."""
    assert read_metrics(found) == read_metrics(expected)
    assert [row["step"] for row in read_metrics(found)] == list(range(1, STEPS + 1))
    assert_same_arrays(final_state(expected, STEPS), final_state(found, STEPS))


@pytest.mark.parametrize("name", ["skip", "rewind"])
def test_a_run_goes_on_as_if_it_never_had_the_batch(runs: Path, name: str) -> None:
    assert_same(runs / name, runs / "without")
    (row,) = rows(runs / name, BAD_STEPS)
    assert (row["step"], row["batch"], row["then"]) == (bad_batch.BAD + 1, bad_batch.BAD, name)
    assert row["loss"] == row["grad_norm"] == "nan"
    assert len(row["clips"]) == 1  # the one of the batch that held it
    written = (runs / name / "throughput.jsonl").read_text().splitlines()
    assert json.loads(written[-1])["bad_steps"] == 1
    assert not rows(runs / "without", BAD_STEPS)
    steps = [row["step"] for row in rows(runs / name, "metrics.jsonl")]
    # The checkpoint is of step 3.
    again = [4] if name == "rewind" else []
    assert steps == [1, 2, 3, 4, *again, 5, 6, 7]


def test_the_same_on_eight_devices(demo_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bad_batch", str(demo_data), str(tmp_path)]
    done = tiny.run(command, tiny.EIGHT_DEVICES)
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.count("step 5: the loss is nan, the norm of its gradient nan, with clip") == 2
    )
    for name in ("skip", "rewind"):
        assert_same(tmp_path / name, tmp_path / "without")


@pytest.mark.slow
def test_the_same_by_two_processes(demo_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = launch([sys.executable, "-m", "tests.bad_batch", str(demo_data), str(out)], out)
    assert job.wait() == [0, 0], job.printed
    for name in ("skip", "rewind"):
        assert_same(out / name, out / "without")
        (row,) = rows(out / name, BAD_STEPS)
        assert row["batch"] == bad_batch.BAD
        assert len(row["clips"]) == 2  # of each process one


@pytest.mark.parametrize("log", ["kept", "lost"])
def test_a_resume_after_a_skip_replays_alike(
    runs: Path, demo_data: Path, tmp_path: Path, log: str
) -> None:
    resumed = Path(shutil.copytree(runs / "skip", tmp_path / "run"))
    for step in (6, STEPS):  # Leaves that of step 3, before the bad one.
        shutil.rmtree(resumed / "checkpoints" / str(step), ignore_errors=True)
    if log == "lost":
        (resumed / BAD_STEPS).unlink()
    bad_batch.train(demo_data, resumed, "skip", train__keep_checkpoints=3)
    assert_same(resumed, runs / "without")
    assert len(rows(resumed, BAD_STEPS)) == 1


def test_going_back_without_a_checkpoint_is_beginning_anew(
    runs: Path, demo_data: Path, tmp_path: Path
) -> None:
    bad_batch.train(demo_data, tmp_path / "run", "rewind", train__checkpoint_every=1000)
    assert_same(tmp_path / "run", runs / "without")


def test_stopping_says_which_clip(demo_data: Path, tmp_path: Path, runs: Path) -> None:
    (row,) = rows(runs / "skip", BAD_STEPS)
    config = tiny.config(demo_data, train__steps=STEPS, train__checkpoint_every=3)
    clip = row["clips"][0].replace("+", r"\+")
    says = rf"step 5: the loss is nan, .* with clips {clip}; .*; the last checkpoint is of step 3"
    # A run that ended so meets the batch again, until it is told to pass over it.
    for _ in range(2):
        with bad_batch.changed(bad_batch.with_nan), pytest.raises(UserError, match=says):
            tiny.train(config, tmp_path / "run")
    bad_batch.train(demo_data, tmp_path / "run", "skip")
    assert_same(tmp_path / "run", runs / "without")


def test_bad_steps_in_a_row_end_the_run(demo_data: Path, tmp_path: Path) -> None:
    config = tiny.config(
        demo_data,
        train__learning_rate=1e30,
        train__warmup_steps=0,
        train__bad_step="skip",
        train__max_bad_steps=2,
    )
    with pytest.raises(UserError, match=r"with clips .*, as of 3 batches in a row; lower"):
        tiny.train(config, tmp_path / "run")


def test_a_run_goes_back_to_a_checkpoint_so_often_and_no_more(tmp_path: Path) -> None:
    train = tiny.config(tmp_path, train__bad_step="rewind", train__max_bad_steps=2).train
    values, losses = {"loss": np.nan, "grad_norm": np.nan}, np.array([np.nan])
    with BadSteps(tmp_path, train, lambda batch: [f"clip{batch}"]) as bad_steps:
        for batch in (4, 8):  # not in a row
            with pytest.raises(Rewind):
                bad_steps.note(5, batch, values, losses, last_saved=3)
        with pytest.raises(UserError, match=r"clip12, after the run had gone back 2 times; lower"):
            bad_steps.note(5, 12, values, losses, last_saved=3)
        with pytest.raises(Rewind):
            bad_steps.note(7, 16, values, losses, last_saved=6)
    assert [row["then"] for row in rows(tmp_path, BAD_STEPS)] == [
        "rewind",
        "rewind",
        "stop",
        "rewind",
    ]


def test_what_is_usual() -> None:
    values = np.random.default_rng(0).lognormal(size=RECENT_STEPS).astype(np.float32)
    deviation = scipy.stats.median_abs_deviation(values, scale="normal")
    found = limit(jnp.asarray(values), 3.0)
    np.testing.assert_allclose(found, np.median(values) + 3 * deviation, rtol=1e-4)
    values[5] = np.nan  # as before so many steps are done
    assert limit(jnp.asarray(values), 3.0) == np.inf


@pytest.mark.parametrize(
    ("loss", "grad_norm", "deviations", "good"),
    [
        (1.0, 1.0, 0.0, True),
        (1e9, 1e9, 0.0, True),
        (np.inf, 1.0, 0.0, False),
        (1.0, np.nan, 0.0, False),
        (np.nan, 1.0, 5.0, False),
        (1.0, 1e9, 5.0, False),
        (1e9, 1.0, 5.0, False),
        (-1e9, 0.0, 5.0, True),  # lower is no harm
    ],
)
def test_what_is_good(loss: float, grad_norm: float, deviations: float, good: bool) -> None:
    usual = jnp.linspace(0.9, 1.1, RECENT_STEPS)
    watched = {"loss": jnp.float32(loss), "grad_norm": jnp.float32(grad_norm)}
    assert is_good(watched, {"loss": usual, "grad_norm": usual}, deviations) == good


@pytest.mark.parametrize("usual", [1e-3, 1e3])
def test_a_step_far_from_the_usual_changes_nothing(demo_data: Path, usual: float) -> None:
    experiment = Experiment.from_config(tiny.config(demo_data, train__bad_step_deviations=4.0))
    state, batches = start(demo_data, experiment)
    values = usual * jnp.linspace(0.9, 1.1, RECENT_STEPS)
    state = dataclasses.replace(state, recent={"loss": values, "grad_norm": values})
    new, metrics = jax.jit(make_train_step(experiment))(state, next(batches))
    assert metrics["kept"] == (usual > 1)
    if usual > 1:
        assert new.step == 1
        assert new.recent["loss"][0] == metrics["loss"]
        np.testing.assert_array_equal(new.recent["loss"][1:], values[1:])
    else:
        jax.tree.map(np.testing.assert_array_equal, new, state)


def test_groups_of_gradients_add_up(runs: Path) -> None:
    for row in read_metrics(runs / "without"):
        groups: dict[str, Any] = {x: row[x] for x in row if x.startswith("grad_norm_")}
        assert len(groups) == 6
        assert sum(norm**2 for norm in groups.values()) == pytest.approx(row["grad_norm"] ** 2)
