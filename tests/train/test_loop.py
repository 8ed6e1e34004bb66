"""The training loop: exact resume, stopping, sharding, accumulation, overrides."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from tests import noise, tiny
from vssflow_jax.input_pipeline.batches import train_batches
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.mixture import Mixture
from vssflow_jax.models.conditions import PLACEMENTS
from vssflow_jax.models.vssflow import VSSFlow
from vssflow_jax.run import workdir as run_files
from vssflow_jax.run.experiment import Experiment, TrainState
from vssflow_jax.run.initial import initial_state
from vssflow_jax.run.optimizer import OPTIMIZERS
from vssflow_jax.train.step import make_train_step

RESUMED_STEPS = 40


def final_state(workdir: Path, step: int) -> dict[str, Any]:
    """The arrays of a checkpoint as they lie on the disk."""
    path = workdir.absolute() / "checkpoints" / str(step) / "state"
    states = ocp.PyTreeCheckpointHandler()
    metadata = states.metadata(path)
    # Whatever devices they were on.
    plain = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), getattr(metadata, "tree", metadata)
    )
    found: dict[str, Any] = states.restore(path, args=ocp.args.PyTreeRestore(restore_args=plain))
    return found


def assert_same_arrays(first: Any, second: Any) -> None:
    for path, array in jax.tree_util.tree_leaves_with_path(first):
        other = second
        for key in path:
            other = other[key.key if hasattr(key, "key") else key.idx]
        np.testing.assert_array_equal(np.asarray(array), np.asarray(other), err_msg=str(path))


def test_a_killed_run_continues_bit_for_bit(demo_data: Path, tmp_path: Path) -> None:
    changes = {"train__steps": RESUMED_STEPS, "train__checkpoint_every": 7}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = tiny.run(tiny.command("run_train.py", demo_data, whole, **changes))
    assert done.returncode == 0, done.stderr

    command = tiny.command("run_train.py", demo_data, killed, **changes)
    # Killed soon after a checkpoint, later between two, and once while starting up.
    for rows in (8, 17, 0, 30):
        process = subprocess.Popen(
            command, cwd=tiny.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_rows(killed, rows, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = tiny.run(command)
    assert done.returncode == 0, done.stderr

    expected, found = run_files.read_metrics(whole), run_files.read_metrics(killed)
    assert [row["step"] for row in expected] == list(range(1, RESUMED_STEPS + 1))
    assert found == expected
    assert_same_arrays(final_state(whole, RESUMED_STEPS), final_state(killed, RESUMED_STEPS))


def test_a_killed_run_goes_on_from_the_disk_of_its_machine(demo_data: Path, tmp_path: Path) -> None:
    steps, shared = 30, 15
    changes = {"train__steps": steps, "train__checkpoint_every": shared}
    whole, killed, local = tmp_path / "whole", tmp_path / "killed", tmp_path / "local"
    done = tiny.run(tiny.command("run_train.py", demo_data, whole, **changes))
    assert done.returncode == 0, done.stderr

    changes |= {"train__local_checkpoints": local, "train__local_checkpoint_every": 4}
    command = tiny.command("run_train.py", demo_data, killed, **changes)
    process = subprocess.Popen(
        command, cwd=tiny.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not [*local.rglob("20.safetensors")]:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert [path.name for path in (killed / "checkpoints").glob("[0-9]*[0-9]")] == [str(shared)]
    newest = max(int(path.stem) for path in local.rglob("*.safetensors"))
    shutil.copytree(killed, tmp_path / "aside")

    def resumed() -> subprocess.CompletedProcess[str]:
        done = tiny.run(command)
        assert done.returncode == 0, done.stderr
        assert run_files.read_metrics(killed) == run_files.read_metrics(whole)
        assert_same_arrays(final_state(whole, steps), final_state(killed, steps))
        return done

    assert f"going on from the local checkpoint of step {newest}\n" in resumed().stdout
    assert newest > shared

    # Once more from where it was killed, but with nothing whole on the disk of the machine.
    shutil.rmtree(killed)
    (tmp_path / "aside").rename(killed)
    for path in local.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = resumed()
    assert "going on from the local" not in done.stdout
    assert done.stderr.count("is damaged") == done.stderr.count("; passed over") == 2


def wait_for_rows(workdir: Path, rows: int, process: subprocess.Popen[bytes]) -> None:
    """Until `metrics.jsonl` has a row of step `rows`, or a second, while starting up, for 0."""
    if rows == 0:
        time.sleep(1)
        return
    while process.poll() is None:
        path = workdir / "metrics.jsonl"
        if path.exists() and f'"step": {rows},' in path.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"the run ended before step {rows}")


def test_sigterm_saves_and_exits_cleanly(demo_data: Path, tmp_path: Path) -> None:
    changes = {"train__steps": 100_000, "train__schedule": "constant"}
    command = tiny.command("run_train.py", demo_data, tmp_path / "run", **changes)
    process = subprocess.Popen(
        command, cwd=tiny.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    wait_for_rows(tmp_path / "run", 3, process)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "the same command goes on" in printed
    last = run_files.read_metrics(tmp_path / "run")[-1]["step"]
    assert (tmp_path / "run" / "checkpoints" / str(last)).is_dir()


def test_accumulation_gives_the_same_step(demo_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Adam divides a small gradient by itself, and would show its rounding at full size.
    monkeypatch.setitem(OPTIMIZERS, "adamw", lambda train: optax.sgd(1.0))
    rows = []
    for parts in (1, 4):
        experiment = Experiment.from_config(tiny.config(demo_data, train__accumulation_steps=parts))
        state, batches = start(demo_data, experiment)
        step = jax.jit(make_train_step(experiment))
        for _ in range(3):
            state, metrics = step(state, next(batches))
        rows.append((metrics, state.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), *rows)


def start(data: Path, experiment: Experiment) -> tuple[TrainState, Any]:
    config = tiny.config(data)
    dataset = Dataset(data, experiment.spec)
    mixture = Mixture.from_config(config.data.mixture)
    batches = train_batches(dataset, mixture, config.train.batch_size, config.seed)
    return initial_state(experiment, dataset.latent_stats), iter(batches)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_the_network_is_traced_once_a_window(
    demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulation_steps: int
) -> None:
    made, traced = [], []
    make, call = VSSFlow.__init__, VSSFlow.__call__
    monkeypatch.setattr(VSSFlow, "__init__", lambda *a, **k: made.append(1) or make(*a, **k))
    monkeypatch.setattr(VSSFlow, "__call__", lambda *a, **k: traced.append(1) or call(*a, **k))
    config = tiny.config(
        demo_data,
        seed=71,  # as no other test has it, which would have the shapes of the network at hand
        train__steps=2,
        train__accumulation_steps=accumulation_steps,
        data__bucket_sec=(2.0,),
    )
    assert tiny.train(config, tmp_path / "run")
    assert len(traced) == 2  # two windows
    assert len(made) == 2  # its shapes, and its first weights


def test_the_loss_falls_by_a_fifth(demo_data: Path, tmp_path: Path) -> None:
    config = tiny.config(demo_data, train__steps=60, train__decay_steps=60)
    assert tiny.train(config, tmp_path / "run")
    losses = [row["loss"] for row in run_files.read_metrics(tmp_path / "run")]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_batches_of_several_windows_resume_too(tmp_path: Path) -> None:
    noise.make(tmp_path / "data", v2s=[3.0] * 8, visualtts=[1.0, 2.0] * 8)
    lengths = {"data__bucket_sec": (1.0, 2.0), "train__loss_mask": "clip"}
    weights = {"v2s": 0.4, "visualtts": 0.6, "tts": 0.0, "joint": 0.0}
    config = tiny.config(tmp_path / "data", train__steps=6, **lengths)
    config.data.mixture.weights.update(weights)
    config.data.source = "none"
    assert tiny.train(config, tmp_path / "whole")
    config.train.steps = 3
    assert tiny.train(config, tmp_path / "parts")
    config.train.steps = 6
    assert tiny.train(config, tmp_path / "parts")
    whole, parts = (run_files.read_metrics(tmp_path / name) for name in ("whole", "parts"))
    assert whole == parts
    work = [row["tflops_per_sec"] / row["steps_per_sec"] for row in speeds(tmp_path / "whole")]
    assert len({round(flops, 6) for flops in work}) == 3  # of three windows


def speeds(workdir: Path) -> list[dict[str, Any]]:
    rows = run_files.rows(workdir, run_files.THROUGHPUT)
    return [row for row in rows if "steps_per_sec" in row]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_loss_falls_in_every_placement(placement: str, demo_data: Path, tmp_path: Path) -> None:
    config = tiny.config(demo_data, train__steps=20, model__placement=placement)
    assert tiny.train(config, tmp_path / "run")
    losses = [row["loss"] for row in run_files.read_metrics(tmp_path / "run")]
    assert len(losses) == 20
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_the_average_follows_the_weights(demo_data: Path) -> None:
    experiment = Experiment.from_config(tiny.config(demo_data, train__ema_decay=0.5))
    state, batches = start(demo_data, experiment)
    new, _ = jax.jit(make_train_step(experiment))(state, next(batches))
    # After the first step of a young average the decay is (1 + 0) / (10 + 0).
    expected = jax.tree.map(lambda old, now: 0.1 * old + 0.9 * now, state.ema, new.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), new.ema, expected)


def test_more_steps_of_a_finished_run_and_rows_every_n(demo_data: Path, tmp_path: Path) -> None:
    config = tiny.config(demo_data, train__steps=4, train__log_every=2)
    assert tiny.train(config, tmp_path / "run")
    config.train.steps = 6
    assert tiny.train(config, tmp_path / "run")
    assert [row["step"] for row in run_files.read_metrics(tmp_path / "run")] == [2, 4, 6]


def test_the_resolved_config_lies_beside_the_run(demo_data: Path, tmp_path: Path) -> None:
    tiny.train(tiny.config(demo_data, seed=3, train__steps=1), tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["seed"] == 3
    assert saved["model"]["transformer"]["layers"] == 2
    in_checkpoint = tmp_path / "run" / "checkpoints" / "1" / "config" / "metadata"
    assert json.loads(in_checkpoint.read_text()) == saved
