"""A module outside the project adds to it, by the config alone."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import demo
from data.inspection.stored import Stored
from tests import noise, tiny
from vssflow_jax.audio.vocoder import VOCODERS
from vssflow_jax.config import check
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.metrics.registry import METRICS
from vssflow_jax.flow.solvers import TABLEAUS
from vssflow_jax.input_pipeline.batches import train_batches
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.mixture import Mixture
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.input_pipeline.tasks import TASKS, on_pages
from vssflow_jax.models.conditions import PLACEMENTS
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.plan.describe import count_parameters
from vssflow_jax.run.optimizer import OPTIMIZERS, SCHEDULES
from vssflow_jax.utils import plugins
from vssflow_jax.utils.errors import UserError

WITH_POSE = f"""
import runpy


def get_config():
    config = runpy.run_path("{tiny.ROOT}/configs/demo.py")["get_config"]()
    config.plugins = "my_module"
    config.model.widths.pose = {{"features": 34, "projected": 16}}
    config.model.placement = "with_pose"
    return config
"""
VOCODER = """
from vssflow_jax.audio.griffin_lim import griffin_lim
from vssflow_jax.audio.vocoder import VOCODERS
from vssflow_jax.config import check

VOCODERS["quiet"] = lambda section: lambda log_mel: griffin_lim(log_mel, 2) / 10
"""


def documented() -> str:
    """The module that docs/extending.md shows, without the vocoder that it leaves to the reader."""
    text = (tiny.ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    parts = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(parts) == 7
    return "\n".join(parts[:-1]) + VOCODER


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module, and a benchmark that asks for its metric."""
    path = tmp_path_factory.mktemp("elsewhere")
    (path / "my_module.py").write_text(documented())
    (path / "with_pose.py").write_text(WITH_POSE)
    (path / "mine.py").write_text(
        "import ml_collections\n\n\ndef get_config():\n"
        "    return ml_collections.ConfigDict({'metrics': ('level_difference_db', 'onset_f1')})\n"
    )
    return path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command that runs in the folder."""
    return subprocess.run(
        command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False
    )


def test_one_of_each_is_trained_with_and_evaluated(demo_data: Path, folder: Path) -> None:
    workdir = folder / "run"
    trained = run(
        folder,
        *tiny.command(
            "run_train.py",
            demo_data,
            workdir,
            plugins="my_module",
            train__optimizer="adabelief",
            train__schedule="exponential",
            train__steps=2,
            train__writers=("lines",),
            vocoder__kind="quiet",
            eval__sampler__method="ralston",
        ),
    )
    assert trained.returncode == 0, trained.stderr
    assert "2 train/loss " in (workdir / "values.txt").read_text()
    # By the run's own config, which names the module.
    evaluate = [sys.executable, str(tiny.ROOT / "run_eval.py"), f"--workdir={workdir}"]
    evaluated = run(folder, *evaluate, "--benchmark=mine.py")
    assert evaluated.returncode == 0, evaluated.stderr
    found = json.loads((workdir / "eval" / "metrics.json").read_text())
    assert found["metrics"]["level_difference_db"]["generated"]["value"] > 0
    assert found["metrics"]["level_difference_db"]["ground_truth"]["value"] == 0
    assert "Level difference" in (workdir / "eval" / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work there, and leave the tables as they were."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    tables: list[dict[str, Any]] = [METRICS, OPTIMIZERS, PLACEMENTS, SCHEDULES, STREAMS]
    tables += [TABLEAUS, TASKS, VOCODERS, plugins._loaded]
    before = [dict(table) for table in tables]
    yield
    sys.modules.pop("my_module", None)
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.mark.usefixtures("in_folder")
def test_a_task_is_drawn_evaluated_and_shown(tmp_path: Path) -> None:
    plugins.load("my_module")
    noise.make(tmp_path, music=[2.0] * 6, v2s=[3.0] * 6)
    weights = {"v2s": 0.5, "music": 0.5}
    mixture = Mixture(weights, 0.0, joint_modes=("add",), speech_sources=())
    dataset = Dataset(tmp_path, noise.SPEC)
    batch = next(iter(train_batches(dataset, mixture, 8, seed=0)))
    lengths = (batch["waveform"] != 0).sum(axis=1) / noise.SPEC.sampling_rate
    assert sorted({round(float(x)) for x in lengths}) == [2, 3]
    places = Benchmark("all", part="train").places(dataset)
    assert [place.task for place in places].count("music") == 6
    assert on_pages()[-1] == "music"
    del TASKS["music"]
    with pytest.raises(UserError, match=r"data\.mixture\.weights has 'music'"):
        Mixture(weights, 0.0, joint_modes=("add",), speech_sources=())


def pose(clip_id: str) -> np.ndarray:
    """What an extractor might have made of a clip of 3 s."""
    seed = list(clip_id.encode())
    return np.random.default_rng(seed).standard_normal((15, 34), np.float32)


@pytest.fixture(scope="module")
def posed(demo_data: Path, folder: Path) -> Path:
    """A dataset of the demo's videos with the stream of the module, but for one of the clips."""
    lines = (demo_data / "manifest.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    columns = ("video", "clip_id", "split", "task", "transcript", "voice", "voice_sample")
    with (folder / "clips.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "features" / "pose").mkdir(parents=True)
    for row in rows[:-1]:
        np.save(folder / "features" / "pose" / f"{row['clip_id']}.npy", pose(row["clip_id"]))
    command = [sys.executable, "-m", "data.build", "--source=videos", f"--out={folder / 'posed'}"]
    command += [f"--transcripts={folder / 'clips.tsv'}", f"--videos={demo_data}", "--workers=2"]
    command += [f"--features_root={folder / 'features'}", "--weights_free=visual,sync,lips,speaker"]
    command += ["--nofind_mouths", "--duration_sec=3", "--plugins=my_module"]
    built = tiny.run(command, {"PYTHONPATH": str(folder)})
    assert built.returncode == 0, built.stderr
    assert "pose in 1" in built.stdout
    return folder / "posed"


def test_a_stream_is_built_trained_with_and_evaluated(posed: Path, folder: Path) -> None:
    workdir = folder / "posed-run"
    command = tiny.command(
        "run_train.py",
        posed,
        workdir,
        data__source="none",
        data__workers=1,
        data__mixture__synthetic_ratio=1.0,
        train__steps=2,
        eval__every_steps=0,
    )
    command[2] = "--config=with_pose.py"
    trained = run(folder, *command)
    assert trained.returncode == 0, trained.stderr
    assert "built without" not in trained.stdout
    evaluate = [sys.executable, str(tiny.ROOT / "run_eval.py"), f"--workdir={workdir}"]
    evaluated = run(folder, *evaluate, "--benchmark=mine.py")
    assert evaluated.returncode == 0, evaluated.stderr
    found = json.loads((workdir / "eval" / "metrics.json").read_text())
    assert found["metrics"]["level_difference_db"]["generated"]["value"] > 0


@pytest.mark.usefixtures("in_folder")
def test_a_stream_is_read_where_it_is_and_absent_where_it_is_not(
    posed: Path, demo_data: Path
) -> None:
    config = demo.get_config()
    config.model.widths.pose = {"features": 34, "projected": 16}
    with pytest.raises(UserError, match=r"model\.widths has 'pose'; the conditions are"):
        check(config)
    del config.model.widths["pose"]
    # Who does not know the stream does not miss it, but does not lose it either.
    assert "pose" not in Dataset(posed, noise.SPEC).clips("train", "v2s")[0].features.streams
    with pytest.raises(UserError, match="it has the stream 'pose', which is not known here; name"):
        Stored.open(posed)
    plugins.load("my_module")
    config.model.widths.pose = {"features": 34, "projected": 16}
    check(config)
    config.model.placement = "with_pose"
    check(config)
    model = ModelConfig.from_config(config.model)
    assert count_parameters(model)["projector: body pose"] == 2 * 16 * (34 + 16)
    every = {"v2s": 0.3, "visualtts": 0.3, "tts": 0.2, "joint": 0.4}
    mixture = Mixture(every, 1.0, joint_modes=("add", "insert"), speech_sources=())
    for path in (posed, demo_data):
        dataset = Dataset(path, noise.SPEC, widths=model.feature_widths)
        assert dataset.lacking == ([] if path == posed else ["pose"])
        clips = [dataset.clips("train", "v2s")[i] for i in range(3)]
        batch = next(iter(train_batches(dataset, mixture, 8, seed=0)))
        assert batch["pose"].shape == (8, noise.SPEC.latent_frames, 34)
        assert batch["pose"].any() == (path == posed)
        for clip in clips:
            kept = pose(clip.clip_id).astype(np.float16)[: None if path == posed else 0]
            np.testing.assert_array_equal(clip.features.streams["pose"], kept)
    del config.model.widths["pose"]
    with pytest.raises(UserError, match=r"'with_pose' has 'pose', of which model\.widths says no"):
        check(config)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module", "plugins: no_such_module cannot be imported .*No module named"),
        ("raises", "plugins: raises cannot be imported .*ZeroDivisionError"),
    ],
)
def test_one_that_cannot_be_imported(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raises.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(UserError, match=says):
        plugins.load(name)
