"""Checkpoints whose files are damaged, in the ways in which files get lost, and of other models."""

import dataclasses
import errno
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests import tiny
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import TrainState
from vssflow_jax.run.step_folder import checksums, damages
from vssflow_jax.run.workdir import read_metrics
from vssflow_jax.utils.errors import UserError

KEPT = (2, 4, 6)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """In the form of a training state."""

    step: Any
    params: Any
    opt_state: Any


def state_at(step: int, width: int = 300) -> State:
    rng = np.random.default_rng(step)
    weights = {"inner": {"w_io": jnp.asarray(rng.normal(size=(width, 7)), jnp.float32)}}
    weights["half"] = jnp.asarray(rng.normal(size=(width,)), jnp.bfloat16)
    return State(jnp.int32(step), weights, jax.tree.map(jnp.zeros_like, weights))


def abstract(width: int = 300) -> State:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
        state_at(0, width),
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    with Checkpoints(workdir, keep=3) as checkpoints:
        for step in KEPT:
            checkpoints.save(step, state_at(step), {"at": step}, {"seed": 0})
    return workdir


@pytest.fixture
def run(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(written, tmp_path / "run"))


def resume(run: Path) -> tuple[State, dict[str, Any]]:
    with Checkpoints(run, keep=3) as checkpoints:
        return checkpoints.resume(abstract())


def restore(run: Path, step: int | None = None) -> tuple[State, dict[str, Any]]:
    with Checkpoints(run) as checkpoints:
        return checkpoints.restore(abstract(), step)


def assert_is(found: State, step: int) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, state_at(step))


# ------------------------------------------------------------------------------------ what is lost
def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """Change a bit in every fourth of the file, whatever is written there."""
    content = bytearray(path.read_bytes())
    for quarter in range(1, 4):
        content[len(content) * quarter // 4] ^= 1
    path.write_bytes(content)


DAMAGES = [halve, empty, flip, Path.unlink]


def files_of(folder: Path) -> Iterator[Path]:
    """What a checkpoint cannot do without: its largest file of arrays, and what leads to it."""
    arrays = [path for path in folder.rglob("d/*") if path.is_file()]
    yield max(arrays, key=lambda path: path.stat().st_size)
    yield folder / "state" / "manifest.ocdbt"
    yield folder / "state" / "_METADATA"
    yield folder / "progress" / "metadata"


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_lost_file_costs_one_checkpoint_and_no_more(
    damage: Callable[[Path], None], written: Path, tmp_path: Path, capsys
) -> None:
    for number, path in enumerate(files_of(written / "checkpoints" / "6")):
        run = Path(shutil.copytree(written, tmp_path / str(number)))
        damage(run / path.relative_to(written))
        state, progress = resume(run)
        assert_is(state, 4)
        assert progress == {"at": 4}
        assert (run / "damaged" / "6").is_dir(), path
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["2", "4"]
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"warning: checkpoint {run}/checkpoints/6 is damaged (")
        assert line.endswith("; going on from step 4")


def test_a_run_goes_on_past_what_it_set_aside(run: Path) -> None:
    for _ in range(2):
        halve(run / "checkpoints" / "6" / "state" / "_METADATA")
        with Checkpoints(run, keep=3) as checkpoints:
            state, _ = checkpoints.resume(abstract())
            assert_is(state, 4)
            checkpoints.save(6, state_at(6), {"at": 6}, {})
        assert_is(restore(run)[0], 6)
    assert sorted(path.name for path in (run / "damaged").iterdir()) == ["6", "6.again"]


def test_several_damaged_ones_are_set_aside(run: Path, capsys) -> None:
    for step in (4, 6):
        shutil.rmtree(run / "checkpoints" / str(step) / "state")
    assert_is(resume(run)[0], 2)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew(run: Path) -> None:
    for step in KEPT:
        empty(run / "checkpoints" / str(step) / "state" / "manifest.ocdbt")
    with pytest.raises(UserError, match=r"checkpoints/6 is damaged .* no other one is whole"):
        resume(run)
    assert not (run / "damaged").exists()


def test_readers_name_the_newest_whole_one_and_change_nothing(run: Path) -> None:
    flip(next(files_of(run / "checkpoints" / "6")))
    for step in (None, 6):
        with pytest.raises(UserError, match=r"6 is damaged .*the newest whole one is .*/4$"):
            restore(run, step)
    assert_is(restore(run, 4)[0], 4)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"2", "4", "6"}
    for step in (2, 4):
        empty(run / "checkpoints" / str(step) / "state" / "_METADATA")
    with pytest.raises(UserError, match="no other one is whole: bring back a copy"):
        restore(run)


# ------------------------------------------------------------------------------- of another model
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError("out of memory"),
        ValueError("PERMISSION_DENIED: Error opening local file [OS error 13]"),
        OSError(errno.ECONNRESET, "connection reset by peer"),
        TimeoutError("timed out"),
        # As clients of buckets call theirs.
        type("EndpointConnectionError", (Exception,), {})("could not connect to the endpoint"),
    ],
)
def test_what_is_not_the_files_fault_moves_none(
    run: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "restore", fail)
    with pytest.raises(UserError, match=r"checkpoints/6 could not be read, which need not be"):
        resume(run)
    with pytest.raises(UserError, match=r"checkpoints/6 could not be read, which need not be"):
        damages(run / "checkpoints" / "6")
    monkeypatch.undo()
    assert not damages(run / "checkpoints" / "6")
    assert not (run / "damaged").exists()
    assert_is(resume(run)[0], 6)


def test_another_model_is_no_damage(run: Path) -> None:
    with Checkpoints(run, keep=3) as checkpoints:
        with pytest.raises(UserError, match=r"this config's model: .* \(300,\) there and \(8,\)"):
            checkpoints.resume(abstract(width=8))
        more = abstract()
        more.params["new"] = more.params["half"]
        with pytest.raises(UserError, match=r"params.new is absent there and \(300,\) here"):
            checkpoints.resume(more)
    assert not (run / "damaged").exists()


def test_some_fields_alone_are_read(run: Path) -> None:
    # Which do not ask for what else is damaged, or of another shape.
    with Checkpoints(run) as checkpoints:
        found, _ = checkpoints.restore({"params": abstract().params}, 4)
    jax.tree.map(np.testing.assert_array_equal, found, {"params": state_at(4).params})


def test_a_checksum_sees_every_bit_and_no_mesh() -> None:
    whole = checksums(state_at(1))
    assert set(whole) == {
        "step",
        *(f"{part}.{name}" for part in ("params", "opt_state") for name in ("half", "inner.w_io")),
    }
    changed = state_at(1)
    bits = np.asarray(changed.params["half"]).view(np.uint16).copy()
    bits[17] ^= 1
    changed.params["half"] = jnp.asarray(bits.view(jnp.bfloat16))
    assert [name for name, total in checksums(changed).items() if total != whole[name]] == [
        "params.half"
    ]


# --------------------------------------------------------------------------------- by the commands
def test_the_commands_say_it_without_noise(demo_data: Path, tmp_path: Path) -> None:
    changes = {"train__checkpoint_every": 2, "train__steps": 4}
    command = tiny.command("run_train.py", demo_data, tmp_path / "run", **changes)
    assert tiny.run(command).returncode == 0
    empty(tmp_path / "run" / "checkpoints" / "4" / "state" / "manifest.ocdbt")
    out = ["--out", str(tmp_path / "out")]
    failed = tiny.run([sys.executable, "run_eval.py", f"--workdir={tmp_path}/run", *out])
    assert failed.returncode == 2
    (line,) = failed.stderr.splitlines()
    assert line.startswith("error: checkpoint ")
    assert line.endswith(f"the newest whole one is {tmp_path}/run/checkpoints/2")
    done = tiny.run(command)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "is damaged" in done.stderr
    assert "going on from step 2" in done.stderr
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2, 3, 4]
    assert run_config.exists(tmp_path / "run")


def test_what_earlier_versions_did_not_keep_is_not_known(tmp_path: Path) -> None:
    weights = {"w_io": jnp.ones((3, 2))}
    earlier = TrainState(jnp.int32(7), weights, {}, {}, (jnp.int32(7),), {})
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(7, earlier, {"at": 7}, {})
    today = dataclasses.replace(earlier, recent={"loss": jnp.zeros(4), "grad_norm": jnp.zeros(4)})
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), today
    )
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        found, progress = checkpoints.resume(wanted)
        assert progress == {"at": 7}
        assert all(np.isnan(values).all() for values in found.recent.values())
        jax.tree.map(np.testing.assert_array_equal, dataclasses.replace(found, recent={}), earlier)
        checkpoints.save(8, today, {"at": 8}, {})
    with Checkpoints(tmp_path) as checkpoints:
        jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(wanted)[0], today)
        # Some fields of it, as exports read them.
        some, _ = checkpoints.restore({"params": wanted.params}, 8)
        jax.tree.map(np.testing.assert_array_equal, some, {"params": weights})
