"""Writes that fail in the background, on disks of this machine, of one process and of two."""

import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests import failing_disk, tiny
from tests.jobs import launch
from tests.restored import SMALLER
from vssflow_jax.run import checkpoint
from vssflow_jax.run import workdir as run_files
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.utils.errors import UserError

EVERY = 3
ENDLESS = SMALLER | {"train__steps": 100_000, "train__schedule": "constant"}
PATIENCE_SEC = 120


def state_at(step: int) -> dict[str, jax.Array]:
    """Numbers that compress to more than `failing_disk` lets a file hold."""
    return {"step": jnp.int32(step), "w": jax.random.normal(jax.random.key(step), (300, 1000))}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int], None]]:
    """Makes the disk fail in a way, from a save of a number on."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(checkpoint, "check_room", checkpoint.check_room)
    yield lambda how, save: failing_disk.main(how, save, process=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("how", "reason", "whole"),
    [("limit", "File too large", "step 2"), ("lost", "(Not a directory|File exists)", "none")],
)
def test_a_check_tells_of_a_write_that_failed(
    how: str, reason: str, whole: str, failing: Callable[[str, int], None], tmp_path: Path
) -> None:
    failing(how, 2)

    def save_twice() -> None:
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            checkpoints.save(2, state_at(2), {"at": 2}, {})
            checkpoints.wait()
            checkpoints.check()
            checkpoints.save(4, state_at(4), {"at": 4}, {})
            deadline = time.monotonic() + PATIENCE_SEC
            while time.monotonic() < deadline:
                checkpoints.check()

    expected = rf"could not write: .*{reason}.*; the last whole one is {whole};"
    with pytest.raises(UserError, match=expected):
        save_twice()


@pytest.mark.parametrize(
    ("error", "told"), [(OSError("no room for a row"), UserError), (KeyError("bug"), KeyError)]
)
def test_what_a_full_disk_does_next_is_told_by_the_checkpoint(
    error: Exception, told: type, failing: Callable[[str, int], None], tmp_path: Path
) -> None:
    """A row that there is no room for says nothing of where the run can go on."""
    failing("limit", 1)

    def save_and_fail() -> None:
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            checkpoints.save(2, state_at(2), {}, {})
            raise error

    with pytest.raises(told, match="the last whole one is none" if told is UserError else "bug"):
        save_and_fail()


# --------------------------------------------------------------------------------- by the command
def command(data: Path, workdir: Path, how: str, save: int, process: int = 0) -> list[str]:
    python, _, *arguments = tiny.command(
        "run_train.py", data, workdir, **ENDLESS, train__checkpoint_every=EVERY
    )
    failing = ["-m", "tests.failing_disk", how, str(save), str(process)]
    return [python, *failing, *arguments]


def only_error(printed: str) -> str:
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    return line


def test_the_run_ends_at_once_and_goes_on(demo_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    failing = command(demo_data, run, "limit", save=2)
    failed = tiny.run(failing)
    assert failed.returncode == 2, failed.stderr
    line = only_error(failed.stderr)
    assert re.search(rf"{run}/checkpoints: could not write.*File too large", line), line
    assert f"the last whole one is step {EVERY};" in line
    # Not at the next save: of an endless run, whose steps take less time than the writing.
    last = int(run_files.read_metrics(run)[-1]["step"])
    assert last >= 2 * EVERY
    steps = ["--config.train.steps=" + str(last + 1)]
    done = tiny.run([sys.executable, "run_train.py", *failing[6:], *steps])
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in run_files.read_metrics(run)] == [*range(1, last + 2)]


@pytest.mark.parametrize("process", [0, 1])
def test_all_processes_end_when_the_disk_of_one_fails(
    process: int, demo_data: Path, tmp_path: Path
) -> None:
    job = launch(command(demo_data, tmp_path / "run", "limit", 2, process), tmp_path / "run")
    assert job.wait() == [2, 2], job.printed
    for index, printed in enumerate(job.printed):
        line = only_error(printed)
        assert f"the last whole one is step {EVERY};" in line
        own = "File too large" if index == process else "another process could not write its part"
        assert own in line
