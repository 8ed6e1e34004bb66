"""The digest of sources: of this project, and of what a user adds to it."""

import sys
from pathlib import Path

import pytest

from vssflow_jax.utils import sources


@pytest.mark.parametrize("changed", ["__init__.py", "inner/net.py"])
def test_any_module_of_a_plugin_counts(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "a_plugin_of_several_modules"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/net.py"):
        (package / name).write_text("WIDTH = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    before = sources.digest(package.name)
    assert sources.digest(package.name) == before != sources.digest()
    (package / changed).write_text("WIDTH = 2\n")
    assert sources.digest(package.name) != before
