"""Training by two processes of four simulated devices: one run, stopped, lost, gone on with."""

import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests import restored, tiny
from tests.jobs import PROCESSES, Job, launch
from tests.restored import SMALLER
from vssflow_jax import cli
from vssflow_jax.input_pipeline.batches import train_batches
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.mixture import Mixture
from vssflow_jax.parallel import distributed
from vssflow_jax.run import workdir as run_files
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment, TrainState

LAST_ROW = 6  # before a job is asked to stop
ENDLESS = SMALLER | {"train__steps": 100_000, "train__schedule": "constant"}


def start(data: Path, workdir: Path, **changes: Any) -> Job:
    """Start training by two processes."""
    return launch(tiny.command("run_train.py", data, workdir, **changes), workdir)


def rows(workdir: Path) -> list[dict[str, float]]:
    return run_files.read_metrics(workdir)


def losses(workdir: Path) -> list[float]:
    return [row["loss"] for row in rows(workdir)]


def last_step(workdir: Path) -> int:
    return int(rows(workdir)[-1]["step"])


def saved_state(data: Path, workdir: Path) -> TrainState:
    """The newest checkpoint, on one device."""
    with Checkpoints(workdir) as checkpoints:
        experiment = Experiment.from_config(tiny.config(data, **SMALLER))
        return checkpoints.restore(experiment.abstract_state)[0]


@pytest.fixture(scope="module")
def stopped(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A long job, of which the second process alone was sent SIGTERM; it wrote samples once."""
    workdir = tmp_path_factory.mktemp("hosts") / "stopped"
    job = start(demo_data, workdir, **ENDLESS, train__sample_every=LAST_ROW - 2)
    job.wait_for_row(LAST_ROW)
    job.processes[1].send_signal(signal.SIGTERM)
    assert job.wait() == [0, 0], job.printed
    return job


def test_sigterm_to_one_process_stops_all_after_the_same_step(stopped: Job) -> None:
    step = last_step(stopped.workdir)
    assert f"stopped after step {step} of" in stopped.printed[0]
    assert [path.name for path in (stopped.workdir / "checkpoints").iterdir()] == [str(step)]


def test_only_the_main_process_reports(stopped: Job) -> None:
    assert "step" not in stopped.printed[1]
    lines = (stopped.workdir / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == last_step(stopped.workdir)
    assert len(list((stopped.workdir / "tensorboard").iterdir())) == 1


def test_what_two_processes_began_one_goes_on_with(
    stopped: Job, demo_data: Path, tmp_path: Path
) -> None:
    steps = last_step(stopped.workdir) + 2
    config = tiny.config(demo_data, **ENDLESS | {"train__steps": steps})
    assert tiny.train(config, tmp_path / "alone")
    np.testing.assert_allclose(losses(stopped.workdir), losses(tmp_path / "alone")[:-2], rtol=1e-5)
    gone_on = Path(shutil.copytree(stopped.workdir, tmp_path / "gone-on"))
    assert tiny.train(config, gone_on)
    np.testing.assert_allclose(losses(gone_on), losses(tmp_path / "alone"), rtol=1e-5)


def test_a_checkpoint_is_the_same_on_any_number_of_devices(
    stopped: Job, demo_data: Path, tmp_path: Path
) -> None:
    flag = f"--xla_force_host_platform_device_count={max(restored.DEVICES)}"
    arguments = map(str, (demo_data, stopped.workdir, tmp_path))
    done = tiny.run([sys.executable, "-m", "tests.restored", *arguments], {"XLA_FLAGS": flag})
    assert done.returncode == 0, done.stderr
    expected = jax.tree.leaves(saved_state(demo_data, stopped.workdir))
    for count in restored.DEVICES:
        found = np.load(tmp_path / f"{count}.npz")
        for array, name in zip(expected, found.files, strict=True):
            np.testing.assert_array_equal(array, found[name])


def test_a_job_that_lost_a_process_ends_and_goes_on_exactly(
    stopped: Job, demo_data: Path, tmp_path: Path
) -> None:
    steps = {"train__steps": last_step(stopped.workdir), "train__checkpoint_every": 2}
    changes = ENDLESS | steps
    # First the process where all of them meet, then another.
    for lost, row in ((0, 3), (1, LAST_ROW - 1)):
        job = start(demo_data, tmp_path / "lost", **changes)
        job.wait_for_row(row)
        job.processes[lost].kill()
        codes = job.wait()
        assert codes[lost] == -signal.SIGKILL
        # By which way it hears of the loss is a matter of chance.
        assert codes[1 - lost] in (cli.PROCESS_LOST, -signal.SIGABRT), job.printed
        line = r"error: another process was lost .* goes on from|likely indicates that another task"
        assert re.search(line, job.printed[1 - lost])
        assert "Traceback" not in job.printed[1 - lost]
    job = start(demo_data, tmp_path / "lost", **changes)
    assert job.wait() == [0, 0], job.printed

    assert rows(tmp_path / "lost") == rows(stopped.workdir)
    states = (saved_state(demo_data, workdir) for workdir in (tmp_path / "lost", stopped.workdir))
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.slow
def test_a_job_goes_on_from_the_newest_that_all_have_on_their_own_disks(
    demo_data: Path, tmp_path: Path
) -> None:
    changes = SMALLER | {"train__steps": 24}
    whole, killed, local = tmp_path / "whole", tmp_path / "killed", tmp_path / "local"
    assert start(demo_data, whole, **changes).wait() == [0, 0]
    changes |= {"train__local_checkpoints": local, "train__local_checkpoint_every": 3}
    job = start(demo_data, killed, **changes)
    job.wait_for_row(10)
    for process in job.processes:
        process.kill()
    assert job.wait() == [-signal.SIGKILL] * PROCESSES
    assert not [*(killed / "checkpoints").iterdir()]
    aside = tmp_path / "aside"
    shutil.copytree(killed, aside / "killed")
    shutil.copytree(local, aside / "local")
    folders = sorted(local.glob("*/process-*"))
    assert [folder.name for folder in folders] == ["process-0", "process-1"]
    steps = [{int(path.stem) for path in folder.glob("*.safetensors")} for folder in folders]
    newest = max(set.intersection(*steps))

    def goes_on_from(step: int) -> list[str]:
        job = start(demo_data, killed, **changes)
        assert job.wait() == [0, 0], job.printed
        assert f"going on from the local checkpoint of step {step}\n" in job.printed[0]
        assert rows(killed) == rows(whole)
        states = (saved_state(demo_data, workdir) for workdir in (killed, whole))
        jax.tree.map(np.testing.assert_array_equal, *states)
        return job.printed

    goes_on_from(newest)
    for path in (killed, local):  # as it was after the kill, but for a file of one process
        shutil.rmtree(path)
        shutil.move(aside / path.name, path)
    for path in folders[1].glob("*.safetensors"):
        if int(path.stem) >= newest:
            path.unlink()
    printed = goes_on_from(newest - 3)
    assert "note: local checkpoints of these steps are not there for all processes" in printed[0]


def test_an_error_of_all_processes_is_one_line_of_each(demo_data: Path, tmp_path: Path) -> None:
    job = start(demo_data, tmp_path / "run", train__batch_size=7)
    assert job.wait() == [cli.USER_ERROR] * PROCESSES
    for printed in job.printed:
        (line,) = [line for line in printed.splitlines() if "Gloo" not in line]
        assert re.match(r"error: train.batch_size is 7; it must be a multiple of 8", line)


def test_no_cluster_is_one_clear_line(demo_data: Path, tmp_path: Path) -> None:
    done = tiny.run([*tiny.command("run_train.py", demo_data, tmp_path), "--distributed"])
    assert done.returncode == cli.USER_ERROR
    assert re.fullmatch(r"error: --distributed: .*leave the flag out on one machine\n", done.stderr)


def test_another_platform_than_asked_for_is_one_clear_line(demo_data: Path, tmp_path: Path) -> None:
    command = [*tiny.command("run_train.py", demo_data, tmp_path / "run"), "--platform=gpu"]
    done = tiny.run(command)
    assert done.returncode == cli.USER_ERROR
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: --platform is 'gpu', but JAX computes on 'cpu' (cpu); ")
    assert not (tmp_path / "run").exists()
    distributed.start(platform="cpu")


def test_processes_read_their_own_rows_of_the_same_batches(demo_data: Path) -> None:
    config = tiny.config(demo_data)
    dataset = Dataset(demo_data, Experiment.from_config(config).spec)

    def batches(*rows: int) -> Any:
        given = np.array(rows) if rows else None
        mixture = Mixture.from_config(config.data.mixture)
        return iter(train_batches(dataset, mixture, 8, config.seed, rows=given))

    whole, parts = batches(), [batches(0, 1, 6), batches(2, 3, 4, 5, 7)]
    for _ in range(3):
        batch, (first, second) = next(whole), map(next, parts)
        for name, values in batch.items():
            np.testing.assert_array_equal(first[name], values[[0, 1, 6]])
            np.testing.assert_array_equal(second[name], values[[2, 3, 4, 5, 7]])
    assert whole.get_state() == parts[0].get_state() == parts[1].get_state()
