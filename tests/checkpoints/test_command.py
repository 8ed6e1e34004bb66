"""Checkpoints of a run as they are listed, read through, and copied from one place to another."""

import json
import uuid
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from tests import buckets, tiny
from vssflow_jax.checkpoints import command
from vssflow_jax.checkpoints.copying import copy_run
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.step_folder import COMMITTED
from vssflow_jax.run.workdir import HELD_OUT, METRICS, MetricsLog, read_metrics
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

STEPS = (2, 4, 6)
LOSSES = {2: 0.5, 4: 0.25}


def state_at(step: int) -> dict[str, Any]:
    rng = np.random.default_rng(step)
    weights = {"w": jnp.asarray(rng.normal(size=(300, 7)), jnp.float32)}
    moments = (jnp.int32(step), {"mu": jax.tree.map(lambda w: w.astype(jnp.bfloat16), weights)})
    return {"step": jnp.int32(step), "params": weights, "opt_state": moments}


def abstract() -> dict[str, Any]:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
        state_at(0),
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    config = tiny.config(
        tmp_path,
        train__checkpoint_every=2,
        train__keep_checkpoints=1,
        train__keep_every=4,
        train__keep_best="loss",
    )
    resolved = run_config.write(run, config)
    with MetricsLog(run) as log:
        log.write({"step": 1, "loss": 1.0})
    with MetricsLog(run, HELD_OUT) as log:
        for step, loss in LOSSES.items():
            log.write({"step": step, "loss": loss})
    with Checkpoints(run, keep=3) as checkpoints:
        for step in STEPS:
            checkpoints.save(step, state_at(step), {"at": step}, resolved)
    return run


def call(run: Path, *arguments: str) -> None:
    values = flags.FlagValues()
    command.define_flags(values)
    command.main(values(["command", str(run), *arguments]), values)


def test_a_line_for_each_step(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "checkpoints" / "8.orbax-checkpoint-tmp").mkdir()
    call(run)
    header, *lines, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["step", "written", "MB", "held-out", "loss", "kept", "as"]
    assert [line.split()[0] for line in lines] == ["2", "4", "6"]
    assert [line.split("  ")[-1].strip() for line in lines][1:] == ["every 4, best", "newest"]
    assert "0.5000" in lines[0]
    assert "0.2500" in lines[1]
    assert last.startswith("not whole: 8.orbax-checkpoint-tmp")
    with pytest.raises(UserError, match=r"no checkpoint of step 3 in .*; steps 2, 4, 6 are"):
        call(run, "--steps=3")


def test_every_array_is_read_through(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(run, "--verify")
    assert capsys.readouterr().out.count("is whole") == len(STEPS)
    # A sum that differs, and an array that cannot be read.
    path = run / "checkpoints" / "2" / "progress" / "metadata"
    progress = json.loads(path.read_text())
    progress["checksums"]["opt_state.1.mu.w"] += 1
    path.write_text(json.dumps(progress))
    arrays = [path for path in (run / "checkpoints" / "6").rglob("d/*") if path.is_file()]
    largest = max(arrays, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(UserError, match=r"damaged in .*: steps 2, 6; bring back a copy"):
        call(run, "--verify")
    out, err = capsys.readouterr()
    assert "checkpoints/4 is whole" in out
    first, second = err.splitlines()
    assert first.endswith(
        "2 is damaged: the numbers of opt_state.1.mu.w are not those that were saved"
    )
    assert "6 is damaged: " in second
    call(run, "--verify", "--steps=4")


def assert_is_the_run(copied: Path, run: Path, steps: list[int]) -> None:
    assert (copied / "config.json").read_text() == (run / "config.json").read_text()
    for name in (METRICS, HELD_OUT):
        assert read_metrics(copied, name) == read_metrics(run, name)
    with Checkpoints(copied) as checkpoints:
        assert checkpoints.steps == steps
        for step in steps:
            found, progress = checkpoints.restore(abstract(), step)
            jax.tree.map(np.testing.assert_array_equal, found, state_at(step))
            assert progress == {"at": step}


def test_a_copy_on_a_disk_is_gone_on_with(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere" / "copied"
    call(run, f"--copy={copied}", "--steps=4,2")
    assert_is_the_run(copied, run, [2, 4])
    with Checkpoints(copied, keep=2) as checkpoints:
        checkpoints.save(6, state_at(6), {"at": 6}, {})
    assert_is_the_run(copied, run, [4, 6])
    # Again, with what it lacks.
    call(run, f"--copy={copied}")
    assert_is_the_run(copied, run, [2, 4, 6])
    (copied / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds another run"):
        call(run, f"--copy={copied}")


def test_a_copy_that_was_damaged_on_the_way_is_made_anew(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    call(run, f"--copy={copied}", "--steps=2,4")
    path = copied / "checkpoints" / "4" / "progress" / "metadata"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(UserError, match=r"damaged on the way to .*, and removed there: step 4;"):
        call(run, f"--copy={copied}", "--steps=2,4")
    call(run, f"--copy={copied}", "--steps=2,4")
    assert_is_the_run(copied, run, [2, 4])


def test_a_run_is_not_copied_onto_itself_or_onto_what_has_gone_further(
    run: Path, tmp_path: Path
) -> None:
    (tmp_path / "alias").symlink_to(run)
    with pytest.raises(UserError, match="is the run itself"):
        call(run, f"--copy={tmp_path / 'alias'}")
    assert_is_the_run(run, run, [2, 4, 6])
    copied = tmp_path / "copied"
    call(run, f"--copy={copied}")
    with Checkpoints(copied, keep=4) as checkpoints:
        checkpoints.save(8, state_at(8), {"at": 8}, {})
    with pytest.raises(UserError, match=r"copied has gone on to step 8, and .*run ends at 6"):
        call(run, f"--copy={copied}")
    assert_is_the_run(copied, run, [2, 4, 6, 8])


def test_paths_may_be_relative(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    call(Path(run.name), "--verify")
    call(Path(run.name), "--copy=copied")
    assert capsys.readouterr().out.count("is whole") == 2 * len(STEPS)
    assert_is_the_run(run.parent / "copied", run, list(STEPS))


def test_what_cannot_be_done_is_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--verify and --copy are given"):
        call(run, "--verify", "--copy=elsewhere")
    run_config.write(tmp_path / "begun", tiny.config(tmp_path))
    (tmp_path / "begun" / "checkpoints").mkdir()
    with pytest.raises(UserError, match="begun has no whole checkpoint"):
        call(tmp_path / "begun", "--verify")


@pytest.mark.parametrize("scheme", buckets.SCHEMES)
def test_to_a_bucket_and_back(scheme: str, run: Path, tmp_path: Path, stores_there: None) -> None:
    # As orbax has written them before it marked those of disks.
    (run / "checkpoints" / "2" / COMMITTED).unlink(missing_ok=True)
    bucket = as_path(f"{scheme}://{buckets.BUCKET}/{uuid.uuid4().hex}")
    call(run, f"--copy={bucket}", "--steps=2,6")
    assert_is_the_run(bucket, run, [2, 6])
    # One that was cut short is none, and is copied anew.
    (bucket / "checkpoints" / "6" / COMMITTED).unlink()
    with Checkpoints(bucket) as checkpoints:
        assert checkpoints.steps == [2]
    copy_run(run, bucket, [2, 6])
    assert_is_the_run(bucket, run, [2, 6])
    call(bucket, f"--copy={tmp_path / 'back'}")
    assert_is_the_run(tmp_path / "back", run, [2, 6])
