"""A module outside the project adds to it, by the config alone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny
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
    assert len(parts) == 4
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
