"""What an evaluation's folder remembers of it."""

import json
from pathlib import Path

import pytest

from configs import demo
from vssflow_jax.evaluate.settings import SETTINGS, claim
from vssflow_jax.run.run_config import resolved_values
from vssflow_jax.utils.errors import UserError

SETTINGS_OF_ONE = {
    **dict.fromkeys(("checkpoint_sha256", "step", "seed", "sampler")),
    "definition": {"metrics": ["onset_f1"]},
    "measures": ["onset_f1"],
    "sources": ["here"],
}


def test_what_other_sources_made_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SETTINGS_OF_ONE | {"config": resolved_values(demo.get_config())}
    for _ in range(2):
        claim(tmp_path / "eval", settings, replace=False)
        assert not capsys.readouterr().err
    for _ in range(2):  # It stays so, whoever goes on with it.
        claim(tmp_path / "eval", settings | {"sources": ["there"]}, replace=False)
        assert "was made by other sources of vssflow_jax" in capsys.readouterr().err
    claim(tmp_path / "eval", settings, replace=False)
    assert "was made by other sources" in capsys.readouterr().err
    # Another evaluation is made anew, all of it by these.
    claim(tmp_path / "eval", settings | {"step": 7}, replace=True)
    assert not capsys.readouterr().err


def test_an_evaluation_by_an_earlier_version_is_gone_on_with(tmp_path: Path) -> None:
    settings = SETTINGS_OF_ONE | {"config": resolved_values(demo.get_config())}
    claim(tmp_path / "eval", settings, replace=False)
    settings |= {"files": {"dataset": "a", "vocoder's weights": "b"}}
    earlier = json.loads((tmp_path / "eval" / SETTINGS).read_text())
    widths = earlier["config"]["model"]["widths"]
    widths["clip"], widths["synch"] = widths.pop("visual"), widths.pop("sync")
    (tmp_path / "eval" / SETTINGS).write_text(json.dumps(earlier))
    claim(tmp_path / "eval", settings, replace=False)
    widths["clip"]["features"] += 1
    (tmp_path / "eval" / SETTINGS).write_text(json.dumps(earlier))
    with pytest.raises(UserError, match="holds an evaluation of another model"):
        claim(tmp_path / "eval", settings, replace=False)


def test_an_evaluation_of_other_files_by_the_same_names_is_another(tmp_path: Path) -> None:
    files = {"dataset": "a", "vocoder's weights": "b"}
    settings = SETTINGS_OF_ONE | {"config": resolved_values(demo.get_config()), "files": files}
    for _ in range(2):
        claim(tmp_path / "eval", settings, replace=False)
    with pytest.raises(UserError, match="an evaluation of another vocoder's weights"):
        claim(
            tmp_path / "eval",
            settings | {"files": files | {"vocoder's weights": "c"}},
            replace=False,
        )
