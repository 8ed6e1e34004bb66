"""Which folder may import which: down only, by a short table."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny import ROOT

# The way a clip travels is read from the bottom up; `docs/architecture.md` says what each is for.
ALLOWED = {
    "utils": "",
    "parallel": "utils",
    "weights": "parallel utils",
    "clip": "utils",
    "media": "utils",
    "audio": "clip utils weights",
    "html": "audio utils",
    "input_pipeline": "clip utils",
    "features": "audio clip input_pipeline media networks utils",
    "models": "clip parallel utils weights",
    "networks": "audio models utils weights",
    "flow": "models utils",
    "run": "audio clip input_pipeline models parallel utils weights",
    "config": "audio clip features flow input_pipeline models run utils",
    "cli": "parallel run utils",
    "generate": "audio cli clip config features flow input_pipeline media networks parallel run "
    "utils",
    "train": "audio config flow generate input_pipeline models parallel run utils",
    "evaluate": "audio cli clip config features flow generate html input_pipeline media "
    "networks parallel run utils weights",
    "duration": "clip config input_pipeline models parallel run utils weights",
    "plan": "audio cli config features input_pipeline models parallel run train utils weights",
    "describe": "cli plan",
    "interop": "audio cli config duration models networks parallel run utils weights",
}


def folder(module: str) -> str:
    """The folder of the package that a module is in, or its own name if it is in none."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            whole = node.module == "vssflow_jax"
            yield from (
                f"{node.module}.{x.name}" if whole else f"{node.module}" for x in node.names
            )


def arrows(root: Path) -> set[tuple[str, str]]:
    """Pairs of a folder and another one that it imports."""
    found = set()
    for path in (root / "vssflow_jax").rglob("*.py"):
        start = folder(".".join(path.relative_to(root).with_suffix("").parts))
        for name in imported(path):
            top = name.partition(".")[0]
            assert top not in ("data", "configs", "tests"), f"{path} imports {name}"
            if top == "vssflow_jax":
                found.add((start, folder(name)))
    return {(start, end) for start, end in found if start != end}


def test_no_import_points_up():
    allowed = {(start, end) for start, ends in ALLOWED.items() for end in ends.split()}
    assert not arrows(ROOT) - allowed


def test_the_table_allows_no_circle_and_nothing_in_vain():
    graphlib.TopologicalSorter({start: ends.split() for start, ends in ALLOWED.items()}).prepare()
    allowed = {(start, end) for start, ends in ALLOWED.items() for end in ends.split()}
    assert not allowed - arrows(ROOT)


def test_each_folder_has_its_line_in_the_docs():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for name in ALLOWED:
        assert f"`{name}" in text, name


@pytest.mark.parametrize("line", ["from vssflow_jax import train", "import vssflow_jax.train.loop"])
def test_an_import_that_points_up_is_found(line: str, tmp_path: Path):
    file = tmp_path / "vssflow_jax" / "audio" / "mel.py"
    file.parent.mkdir(parents=True)
    file.write_text(f"def late():\n    {line}\n")
    assert arrows(tmp_path) == {("audio", "train")}
