"""Checkpoints of a machine's own disk: bit for bit, damaged, of another mesh, of another run."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests import local_state, tiny
from tests.local_state import STEPS, abstract, assert_is, section, state_at
from vssflow_jax import config as checks
from vssflow_jax.parallel import distributed
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.local_checkpoints import LocalCheckpoints
from vssflow_jax.run.workdir import RUN_ID, run_id
from vssflow_jax.utils.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with those of all steps, in `local/` of its folder."""
    (tmp_path / "run").mkdir()
    local_state.write(tmp_path / "run" / "local", tmp_path / "run")
    return tmp_path / "run"


def files(run: Path) -> dict[int, Path]:
    return {int(path.stem): path for path in (run / "local").rglob("*.safetensors")}


def resume(run: Path, newer_than: int = 0) -> Any:
    with LocalCheckpoints(section(run / "local"), run) as local:
        return local.resume(abstract(), newer_than)


def test_the_newest_is_the_same_bit_for_bit_and_two_are_kept(run: Path) -> None:
    assert {*files(run)} == {*STEPS[-2:]}
    assert_is(resume(run), STEPS[-1])
    assert resume(run, newer_than=STEPS[-1]) is None


def test_parts_of_eight_devices_are_the_same_and_fit_no_other_mesh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "tests.local_state", str(tmp_path)]
    done = tiny.run(command, tiny.EIGHT_DEVICES)
    assert done.returncode == 0, done.stderr
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(2, state_at(2), {"at": 2}, {})
        checkpoints.wait()
        with LocalCheckpoints(section(tmp_path / "local"), tmp_path) as local:
            found = checkpoints.resume(abstract(), lambda step: local.resume(abstract(), step))
    assert_is((2, found), 2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("note: local checkpoint ")
        assert "does not fit the devices and the mesh of today" in line


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size - 5])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_a_damaged_one_is_passed_over_with_a_line(
    run: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(files(run)[9])
    assert_is(resume(run), 6)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: local checkpoint {files(run)[9]} is damaged (")
    assert line.endswith("); passed over")


def test_one_written_between_other_starts_than_that_of_the_main_process_is_passed_over(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = iter([-1])  # of the main process's file of step 9
    with LocalCheckpoints(section(run / "local"), run) as local:
        monkeypatch.setattr(distributed, "of_main", lambda number: next(numbers, number))
        assert_is(local.resume(abstract(), 0), 6)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "note: local checkpoints of step 9 were not written by all processes together; passed over"
    )


def test_a_file_of_something_else_is_passed_over(run: Path) -> None:
    save_file({"w": np.zeros(3, np.float32)}, files(run)[9])
    assert_is(resume(run), 6)


def test_the_shared_one_counts_where_no_newer_local_one_is_whole(run: Path) -> None:
    with Checkpoints(run, keep=3) as checkpoints:
        for step in (4, 7):
            checkpoints.save(step, state_at(step), {"at": step}, {})
        checkpoints.wait()
        with LocalCheckpoints(section(run / "local"), run) as local:

            def found() -> Any:
                return checkpoints.resume(abstract(), lambda step: local.resume(abstract(), step))

            assert_is((9, found()), 9)
            truncate(files(run)[9])
            assert_is((7, found()), 7)
            shutil.rmtree(run / "checkpoints" / "7" / "state")
            assert_is((6, found()), 6)
            assert (run / "damaged" / "7").is_dir()
            local.discard_newer(6)
            assert {*files(run)} == {6}


def test_a_run_begun_anew_or_copied_does_not_find_them(run: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "copied"))
    assert run_id(copied) == run_id(run)
    assert resume(copied) is None
    (run / RUN_ID).unlink()  # as by who wipes the folder
    assert resume(run) is None


def test_one_that_cannot_be_written_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "local").write_text("a file where a folder is to be")
    local_state.write(tmp_path / "local", tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(STEPS)
    assert all(line.startswith("warning: local checkpoint not written: ") for line in lines)


def test_what_a_kill_left_half_written_goes(run: Path) -> None:
    partial = files(run)[9].with_name(".0123456789abcdef.partial")
    partial.write_bytes(b"half")
    with LocalCheckpoints(section(run / "local"), run) as local:
        local.discard_newer(9)
    assert not partial.exists()
    assert {*files(run)} == {6, 9}


@pytest.mark.parametrize(
    ("folder", "every", "message"),
    [("/local", 0, "give both or neither"), ("", 5, "give both"), ("gs://a/b", 5, "own disk")],
)
def test_fields_that_do_not_fit_are_refused(folder: str, every: int, message: str) -> None:
    config = tiny.config(Path("unused"), train__local_checkpoint_every=every)
    config.train.local_checkpoints = folder
    with pytest.raises(UserError, match=message):
        checks.check(config)
