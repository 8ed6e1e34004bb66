"""Compiled steps in a file: written by a plan, run by a training that compiles none."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from tests import noise, tiny
from vssflow_jax.plan.command import save_step
from vssflow_jax.plan.topologies import Topology
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.run.run_config import with_schedule_end
from vssflow_jax.run.workdir import read_metrics
from vssflow_jax.train import saved_steps
from vssflow_jax.train.step import compiled_step, of_windows
from vssflow_jax.utils.errors import UserError

CHANGES: dict[str, Any] = {
    "train__steps": 3,
    "data__bucket_sec": (1.0,),
    "data__mixture__weights__joint": 0.0,
    "model__transformer__layers": 1,
}
TRACED, COMPILED = "jaxpr_trace_duration step", "backend_compile_duration jit(step)"

# Runs a script, and prints what JAX says that it traces and compiles.
WATCHED = """
import runpy, sys, jax
def told(name, seconds, fun_name="", **_):
    print(name.rsplit("/", 1)[1], fun_name, file=sys.stderr)
jax.monitoring.register_event_duration_secs_listener(told)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of two windows."""
    folder = tmp_path_factory.mktemp("noise")
    noise.make(folder, v2s=[3.0] * 8, visualtts=[1.0] * 8)
    return folder


def settings(data: Path, **changes: Any) -> Any:
    return tiny.config(data, **{**CHANGES, **changes, "data__source": "none"})


@pytest.fixture(scope="module")
def saved(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The steps of the config, for the one device of this process, where a run has kept them."""
    path = tmp_path_factory.mktemp("saved") / "steps"
    config = with_schedule_end(settings(data))
    for of_window in of_windows(Experiment.from_config(config), config.data.bucket_sec).values():
        compiled_step(of_window, config.codec.latents)
    saved_steps.write(path, config, Experiment.from_config(config))
    return path


def test_a_run_by_saved_steps_compiles_none(
    data: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = settings(data)
    assert tiny.train(config, tmp_path / "own")
    with monkeypatch.context() as patch:
        patch.setattr("vssflow_jax.train.step.make_train_step", None)  # what there is to trace
        config.train.compiled_step = str(saved)
        assert tiny.train(config, tmp_path / "saved")
    own, found = (read_metrics(tmp_path / name) for name in ("own", "saved"))
    assert [row["step"] for row in own] == [1, 2, 3]
    assert found == own


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__batch_size": 16}, r"train.batch_size 8, and here it is 16; make it again"),
        ({"train__learning_rate": 1e-3}, r"train.learning_rate 0.0\d*, and here it is 0.001"),
        ({"model__transformer__heads": 4}, r"model.transformer.heads 2, and here it is 4"),
        ({"data__bucket_sec": ()}, r"data.bucket_sec \[1.0\], and here it is \[\]"),
    ],
)
def test_steps_of_another_config_are_refused(
    data: Path, saved: Path, changes: dict[str, Any], message: str
):
    config = with_schedule_end(settings(data, train__compiled_step=str(saved), **changes))
    with pytest.raises(UserError, match=message):
        saved_steps.SavedSteps.find(config, Experiment.from_config(config))


def test_what_steps_do_not_depend_on_may_differ(data: Path, saved: Path):
    config = with_schedule_end(
        settings(data, train__compiled_step=str(saved), train__log_every=7, data__threads=1)
    )
    config.train.steps += 1
    assert saved_steps.SavedSteps.find(config, Experiment.from_config(config))


def changed(path: Path, name: str, value: Any) -> None:
    """Have a header say something else."""
    line, programs = path.read_bytes().split(b"\n", 1)
    header = json.loads(line)
    assert name in header["made_for"]
    header["made_for"][name] = value
    path.write_bytes(json.dumps(header).encode() + b"\n" + programs)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("versions of packages", {"jax": "0.1"}, r"made for jax 0.1, and here it is \d"),
        ("sources with the digest", "other", r"made for sources with the digest other"),
        ("devices of kind", "TPU v5 lite", r"devices of kind TPU v5 lite, and here it is cpu"),
        ("a processor with the digest", "other", r"a processor with the digest other"),
        ("the mesh", {"fsdp": 8}, r"made for fsdp 8, and here it is 1"),
    ],
)
def test_steps_of_elsewhere_are_refused_unread(
    data: Path, saved: Path, tmp_path: Path, name: str, value: Any, message: str
):
    path = Path(shutil.copy(saved, tmp_path))
    changed(path, name, value)
    line, _ = path.read_bytes().split(b"\n", 1)
    path.write_bytes(line + b"\n")  # no program is looked at
    config = with_schedule_end(settings(data, train__compiled_step=str(path)))
    with pytest.raises(UserError, match=message):
        saved_steps.SavedSteps.find(config, Experiment.from_config(config))


@pytest.mark.parametrize("content", [b"", b"no header\n", b"[]\n", b'{"format": "other"}\n'])
def test_another_file_is_refused(data: Path, tmp_path: Path, content: bytes):
    path = tmp_path / "other"
    path.write_bytes(content)
    config = with_schedule_end(settings(data, train__compiled_step=str(path)))
    with pytest.raises(UserError, match=r"other holds no compiled steps; make them by"):
        saved_steps.SavedSteps.find(config, Experiment.from_config(config))


def test_a_damaged_program_is_not_run(data: Path, saved: Path, tmp_path: Path):
    path = Path(shutil.copy(saved, tmp_path))
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    config = with_schedule_end(settings(data, train__compiled_step=str(path)))
    with pytest.raises(UserError, match=r"steps is damaged; copy or make it again"):
        tiny.train(config, tmp_path / "run")


def test_saving_takes_one_strategy_and_the_batch_of_the_config(data: Path, tmp_path: Path):
    config, topology = settings(data), Topology("local")
    with pytest.raises(UserError, match=r"--save_step is of one strategy, and .* 2: dp, fsdp"):
        save_step(config, topology, ["dp", "fsdp"], None, tmp_path / "steps")
    devices = len(jax.devices())
    with pytest.raises(UserError, match=rf"batch of {5 * devices}, but train.batch_size is 8"):
        save_step(config, topology, ["dp"], 5, tmp_path / "steps")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # the compiler for TPUs does all that it can
def test_steps_for_tpus_are_written_without_one(data: Path, tmp_path: Path):
    path, changes = tmp_path / "steps", {"clip__duration_sec": 0.56, "data__bucket_sec": ()}
    config = settings(data, **changes, train__compiled_step=str(path))
    save_step(config, Topology.parse("v5e:2x4"), ["fsdp"], 1, path)
    header = json.loads(path.read_bytes().split(b"\n", 1)[0])
    assert header["made_for"]["devices of kind"] == "TPU v5 lite"
    assert header["made_for"]["the mesh"]["fsdp"] == 8
    places = [place for _, _, *place in header["made_for"]["devices (number, slice, place)"]]
    assert sorted(places) == [[x, y, 0] for x in range(2) for y in range(4)]
    assert "libtpu" in header["made_for"]["versions of packages"]
    (program,) = header["programs"]
    assert program["frames"] == 14
    assert path.stat().st_size > program["bytes"] > 100_000
    config = with_schedule_end(config)
    with pytest.raises(UserError, match=r"devices of kind TPU v5 lite, and here it is cpu"):
        saved_steps.SavedSteps.find(config, Experiment.from_config(config))


def test_what_a_plan_saves_for_eight_devices_they_run(data: Path, tmp_path: Path):
    overrides = {**CHANGES, "data__source": "none", "data__bucket_sec": "()", "train__steps": 2}
    train = tiny.command("run_train.py", data, tmp_path / "own", **overrides)
    fields = [argument for argument in train if argument.startswith("--config")]
    planned = tiny.run(
        [
            *(sys.executable, "-m", "vssflow_jax.plan", "--topology=cpu:8", "--strategies=fsdp"),
            *(f"--save_step={tmp_path / 'steps'}", *fields),
        ]
    )
    assert planned.returncode == 0, planned.stderr

    def logged(name: str, devices: dict[str, str], *more: str) -> tuple[int, str]:
        python, *arguments = train
        command = [python, "-c", WATCHED, *arguments, f"--workdir={tmp_path / name}", *more]
        alone = {**devices, "JAX_ENABLE_COMPILATION_CACHE": "false"}  # or they would share a step
        done = tiny.run([*command, "--config.sharding.strategy=fsdp"], alone)
        return done.returncode, done.stderr

    by_file = f"--config.train.compiled_step={tmp_path / 'steps'}"
    code, own = logged("own", tiny.EIGHT_DEVICES)
    assert (code, TRACED in own, COMPILED in own) == (0, True, True), own
    code, saved = logged("saved", tiny.EIGHT_DEVICES, by_file)
    assert (code, TRACED in saved, COMPILED in saved) == (0, False, False), saved
    assert read_metrics(tmp_path / "saved") == read_metrics(tmp_path / "own")
    assert len(read_metrics(tmp_path / "own")) == 2
    code, refused = logged("one", {}, by_file)
    assert code == 2
    assert "made for fsdp 8, and here it is 1" in refused.splitlines()[-1]
