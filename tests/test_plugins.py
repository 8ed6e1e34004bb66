"""A module outside the project adds to it, by the config alone."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import noise, tiny
from vssflow_jax.audio.vocoder import VOCODERS
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.metrics.registry import METRICS
from vssflow_jax.flow.solvers import TABLEAUS
from vssflow_jax.input_pipeline.batches import train_batches
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.mixture import Mixture
from vssflow_jax.input_pipeline.tasks import TASKS, on_pages
from vssflow_jax.run.optimizer import OPTIMIZERS, SCHEDULES
from vssflow_jax.utils import plugins
from vssflow_jax.utils.errors import UserError

VOCODER = """
from vssflow_jax.audio.griffin_lim import griffin_lim
from vssflow_jax.audio.vocoder import VOCODERS

VOCODERS["quiet"] = lambda section: lambda log_mel: griffin_lim(log_mel, 2) / 10
"""


def documented() -> str:
    """The module that docs/extending.md shows, without the vocoder that it leaves to the reader."""
    text = (tiny.ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    parts = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(parts) == 5
    return "\n".join(parts[:-1]) + VOCODER


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module, and a benchmark that asks for its metric."""
    path = tmp_path_factory.mktemp("elsewhere")
    (path / "my_module.py").write_text(documented())
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
            train__optimizer="lion",
            train__schedule="cosine",
            train__steps=2,
            vocoder__kind="quiet",
            eval__sampler__method="ralston",
        ),
    )
    assert trained.returncode == 0, trained.stderr
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
    tables: list[dict[str, Any]] = [METRICS, OPTIMIZERS, SCHEDULES, TABLEAUS, TASKS, VOCODERS]
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
