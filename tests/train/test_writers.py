"""Writers of curves and sounds: what TensorBoard and Weights & Biases are left with, and others."""

import contextlib
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboardX.proto import event_pb2
from wandb.proto import wandb_internal_pb2

from configs import demo
from tests import tiny
from vssflow_jax import cli
from vssflow_jax.run import run_config
from vssflow_jax.train import setup
from vssflow_jax.train.writers import WRITERS, WriterKind, Writers
from vssflow_jax.utils.errors import MissingPackage, UserError

BLOCK = 32768


class Recorder(contextlib.ExitStack):
    """A writer of the kind that a plugin adds, and what it was told."""

    def __init__(self, workdir: Path, config: Any, done: int):
        super().__init__()
        self.opened = (workdir, config.seed, done)
        self.values: dict[str, list[int]] = {}
        self.sounds: list[tuple[int, str, int, int]] = []
        self.puts = 0

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            assert isinstance(value, float | int)
            self.values.setdefault(name, []).append(step)

    def audio(self, step: int, name: str, waveform: np.ndarray, sampling_rate: int) -> None:
        assert waveform.dtype == np.float32
        self.sounds.append((step, name, waveform.ndim, sampling_rate))

    def put(self) -> None:
        self.puts += 1


def test_a_writer_of_ones_own_is_told_all_and_no_other_is_needed(
    demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Recorder] = []
    kind = WriterKind(lambda *given: made.append(Recorder(*given)) or made[-1])
    monkeypatch.setitem(WRITERS, "recorder", kind)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # its import fails
    config = tiny.config(
        demo_data,
        train__steps=4,
        train__writers=("recorder",),
        train__sample_every=2,
        train__held_out_every=2,
    )
    assert tiny.train(config, tmp_path / "run")
    (recorder,) = made
    assert recorder.opened == (tmp_path / "run", config.seed, 0)
    assert recorder.values["train/loss"] == [1, 2, 3, 4]
    assert recorder.values["speed/goodput"] == recorder.values["badput/compile"] == [2, 3, 4]
    assert recorder.values["eval/held_out/loss"] == [2, 4]
    assert {step for step, *_ in recorder.sounds} == {2, 4}
    assert all(told[2:] == (1, 16000) and told[1][:7] == "sample/" for told in recorder.sounds)
    assert recorder.puts == 1  # for the checkpoint
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_names_and_packages_are_checked_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = demo.get_config()
    config.train.writers = ("tensorboard", "paper")
    with pytest.raises(UserError, match=r"train\.writers is 'paper'; choose one of: tensorboard"):
        setup.prepare(config, tmp_path / "run")
    monkeypatch.setitem(WRITERS, "paper", WriterKind(Recorder, package="no_paper", extra="paper"))
    with pytest.raises(MissingPackage, match=r"'no_paper' is not installed: .*\[paper\]"):
        setup.prepare(config, tmp_path / "run")


def test_a_resumed_run_may_have_other_writers(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    run_config.write(tmp_path, config)
    config.train.writers = ("wandb",)
    run_config.check_resumable(tmp_path, config)


def test_tensorboard_has_what_it_was_told(tmp_path: Path) -> None:
    with Writers(tmp_path, demo.get_config(), 2) as told:
        told.scalars("train", 3, {"loss": 1.5})
        told.audio(3, "sample/clip", np.zeros(160, np.float32), 16000)
        told.put()
    (path,) = (tmp_path / "tensorboard").iterdir()
    data, values = path.read_bytes(), []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        event = event_pb2.Event.FromString(data[12 : 12 + size])
        values += [(event.step, value) for value in event.summary.value]
        data = data[16 + size :]
    (scalar_step, scalar), (audio_step, audio) = values
    assert (scalar_step, scalar.tag, scalar.simple_value) == (3, "train/loss", 1.5)
    assert (audio_step, audio.audio.sample_rate) == (3, 16000)


# ------------------------------------------------------------------------------ Weights & Biases
@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for variable in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{variable}_DIR", str(tmp_path / variable.lower()))


def records(path: Path) -> Iterator[Any]:
    """Records of a run's file: LevelDB's log, behind a header of seven bytes."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := BLOCK - at % BLOCK) < 7:
            at += left
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def test_a_run_of_wandb_is_the_same_after_a_restart(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    config, workdir = demo.get_config(), tmp_path / "run"
    config.train.writers = ("wandb",)
    config.seed = 17
    workdir.mkdir()
    told: list[list[dict[str, str]]] = []
    ids = []
    for start in range(2):
        with Writers(workdir, config, 2 * start) as both:
            both.scalars("train", 4, {"loss": 1.5})
            both.audio(4, "sample/clip", np.linspace(-1, 1, 160, dtype=np.float32), 16000)
            both.scalars("train", 3, {"loss": 0.25})  # as after going back
        paths = set(workdir.glob("wandb/offline-run-*/*.wandb"))
        (path,) = paths - {path for path, _ in ids}
        run, history = "", []
        for record in records(path):
            if record.HasField("run"):
                run = record.run.run_id
                values = {item.key: item.value_json for item in record.run.config.update}
                assert values["seed"] == "17"
                assert record.run.display_name == "run"
            if record.HasField("history"):
                items = record.history.item
                history.append({i.key or "/".join(i.nested_key): i.value_json for i in items})
        ids.append((path, run))
        told.append(history)
    assert {run for _, run in ids} == {(workdir / "run_id").read_text()}
    for history in told:
        rows = [(row["step"], row.get("train/loss")) for row in history]
        assert rows == [("4", "1.5"), ("4", None), ("3", "0.25")]
    assert len(list(workdir.glob("wandb/offline-run-*/files/media/audio/sample/*.wav"))) == 2


def test_nobody_logged_in_is_one_clear_line(tmp_path: Path) -> None:
    # By itself, for wandb looks at its environment once in a process.
    code = (
        "from pathlib import Path; from configs import demo; from vssflow_jax import cli; "
        "from vssflow_jax.train.writers import Writers; config = demo.get_config(); "
        "config.train.writers = ('wandb',); "
        f"cli.run(lambda _: Writers(Path('{tmp_path}'), config, 0))"
    )
    nobody = {"WANDB_MODE": "online", "WANDB_API_KEY": "", "HOME": str(tmp_path)}
    done = tiny.run([sys.executable, "-c", code], nobody)
    assert done.returncode == cli.USER_ERROR, done.stderr
    line = done.stderr.splitlines()[-1]
    assert re.match("error: Weights & Biases: .*; log in by `wandb login`, set WANDB_MODE", line)
