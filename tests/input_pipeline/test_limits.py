"""Open files and shared memory, too few or too little of which is told of at the start."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import tiny
from vssflow_jax.input_pipeline import limits
from vssflow_jax.train.setup import Run
from vssflow_jax.utils.errors import UserError

MB = 10**6


def open_files(hard: int, shards: int) -> tuple[int, str]:
    """The limit that a process ends up with, and what it says."""
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard})); "
        f"from vssflow_jax.input_pipeline import limits; limits.allow_open_files({shards}); "
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = tiny.run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    return int(done.stdout), done.stderr


def test_as_many_files_as_the_system_allows():
    assert open_files(700, 400) == (700, "")


def test_more_shards_than_files_are_one_clear_line():
    limit, said = open_files(700, 500)
    assert limit == 700
    (line,) = said.splitlines()
    assert line.startswith("warning: a process may have 700 files open here, and reading 500 ")


def set_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    status = SimpleNamespace(f_bavail=free // 1000, f_frsize=1000)
    monkeypatch.setattr(os, "statvfs", lambda path: status)


@pytest.mark.parametrize(("workers", "free"), [(0, 0), (3, 80 * MB)])
def test_enough_shared_memory_is_nothing_to_speak_of(
    workers: int, free: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_free(monkeypatch, free)
    limits.check_shared_memory(10 * MB, workers)
    assert capsys.readouterr().err == ""


def test_little_shared_memory_is_warned_of_and_too_little_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_free(monkeypatch, 64 * MB)
    limits.check_shared_memory(10 * MB, 3)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "warning: /dev/shm has 64 MB free, and 3 processes that read need up to 80 MB there for "
        "batches of 10.0 MB; "
    )
    with pytest.raises(UserError, match=r"need up to 160 MB there for batches of 20\.0 MB"):
        limits.check_shared_memory(20 * MB, 3)


def test_a_system_without_that_place_is_not_asked(tmp_path: Path) -> None:
    limits.check_shared_memory(10 * MB, 3, tmp_path / "none")


def test_a_training_hears_of_it_before_it_begins(
    demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free(monkeypatch, 0)
    config = tiny.config(demo_data, data__workers=2)
    with pytest.raises(UserError, match="/dev/shm has 0 MB free, and 2 processes") as raised:
        tiny.train(config, tmp_path / "run")
    size = float(str(raised.value).split("batches of ")[1].split(" MB")[0])
    assert not (tmp_path / "run").exists()
    run = Run.open(tiny.config(demo_data), tmp_path / "run", 0.0, for_test=False)
    batch_bytes = sum(array.nbytes for array in run.batches.made[0].example.values())
    assert size == pytest.approx(batch_bytes / MB, abs=0.05)
