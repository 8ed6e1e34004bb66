"""Runs whose data and folder are in a bucket, against emulators, killed and gone on with."""

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests import buckets, tiny
from tests.faulty import Faults, before
from tests.jobs import launch
from vssflow_jax.run.workdir import read_metrics
from vssflow_jax.utils.files import as_path, copy

STEPS = 6
CHANGES: dict[str, Any] = {
    "train__steps": STEPS,
    "train__checkpoint_every": 2,
    "train__held_out_every": 3,
    "train__held_out_clips": 2,
    "model__transformer__layers": 1,
}
PATIENCE_SEC = 240


@pytest.fixture(scope="module")
def expected(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on a disk, whole."""
    workdir = tmp_path_factory.mktemp("disk") / "run"
    done = tiny.run(tiny.command("run_train.py", demo_data, workdir, **CHANGES))
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="module", params=buckets.SCHEMES)
def data(request: pytest.FixtureRequest, stores_there: None, demo_data: Path) -> Path:
    """The dataset in a bucket."""
    folder = as_path(f"{request.param}://{buckets.BUCKET}/{uuid.uuid4().hex}/data")
    for path in demo_data.rglob("*"):
        if path.is_file():
            copy(path, folder / str(path.relative_to(demo_data)))
    return folder


def kill_when(process: subprocess.Popen[Any], path: Path) -> None:
    """Kill a process as soon as something is there."""
    deadline = time.monotonic() + PATIENCE_SEC
    while not path.exists():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def assert_same_rows(workdir: Path, expected: Path) -> None:
    for name in ("metrics.jsonl", "held_out.jsonl"):
        found = read_metrics(workdir, name)
        assert found == read_metrics(expected, name)
        assert found[-1]["step"] == STEPS


def test_a_run_in_a_bucket_goes_on_after_a_kill(data: Path, expected: Path, tmp_path: Path):
    workdir = data.parent / "run"
    command = tiny.command("run_train.py", data, workdir, **CHANGES)
    log = (tmp_path / "log").open("w")
    with subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as process:
        kill_when(process, workdir / "checkpoints" / "2" / "commit_success.txt")
    done = tiny.run(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_rows(workdir, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["log"], "folders of this machine"
    there = {path.name for path in workdir.iterdir()}
    assert there == {path.name for path in expected.iterdir()}
    assert list((workdir / "tensorboard").iterdir())

    # What one has trained, others use from there.
    video = next(path for path in data.rglob("*.mp4"))
    out = data.parent / "out.mp4"
    made = tiny.run(
        [
            *(tiny.sys.executable, "-m", "vssflow_jax.generate", f"--checkpoint={workdir}"),
            *(f"--video={video}", f"--out={out}", "--steps=2"),
        ],
    )
    assert made.returncode == 0, made.stderr
    assert out.stat().st_size > 1000


def test_a_run_outlives_the_faults_of_its_store(data: Path, expected: Path):
    """It fails now and then, refuses to write for a while, and the run is killed as well."""
    workdir, faults = data.parent / "faulty", Faults(every=20)
    command = tiny.command("run_train.py", data, workdir, **CHANGES)
    with before(str(data).partition(":")[0], faults) as variables:
        with subprocess.Popen(command, env=os.environ | variables, cwd=tiny.ROOT) as process:
            kill_when(process, workdir / "checkpoints" / "2" / "commit_success.txt")
        faults.denied = True
        done = tiny.run(command, variables)
        assert done.returncode == 2, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert str(workdir) in line
        assert "Traceback" not in done.stderr
        faults.denied = False
        done = tiny.run(command, variables)
        assert done.returncode == 0, done.stderr
    assert faults.failed > 10
    assert_same_rows(workdir, expected)


def test_two_processes_share_a_run_in_a_bucket(stores_there: None, demo_data: Path, tmp_path: Path):
    changes = CHANGES | {"train__steps": 4}
    alone, workdir = tmp_path / "alone", as_path(f"s3://{buckets.BUCKET}/{uuid.uuid4().hex}")
    shutil.copytree(demo_data, tmp_path / "data")

    def start(run: Path) -> Any:
        command = tiny.command("run_train.py", tmp_path / "data", run, **changes)
        return launch(command, tmp_path / "job")

    job = start(workdir)
    kill_when(job.processes[1], workdir / "checkpoints" / "2" / "commit_success.txt")
    job.wait()
    for run in (workdir, alone):
        job = start(run)
        assert job.wait() == [0, 0], job.printed
    assert read_metrics(workdir) == read_metrics(alone)
