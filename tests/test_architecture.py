"""Which folder may import which: down only, by a short table."""

import ast
import graphlib
import re
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
    "train": "audio clip config flow generate input_pipeline models parallel run utils",
    "evaluate": "audio cli clip config features flow generate html input_pipeline media "
    "networks parallel run utils weights",
    "duration": "clip config input_pipeline models parallel run utils weights",
    "plan": "audio cli config features input_pipeline models parallel run train utils weights",
    "describe": "cli plan",
    "checkpoints": "cli parallel run utils",
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


# --------------------------------------------------------------------- what a bucket does not do
# These know stores; what they give the rest works wherever a path leads.
KNOW_STORES = ("files", "locks", "logs", "object_cache", "stores")
TRICKS = {
    "fcntl": "locks of a disk",
    "os.replace": "renaming",
    "os.rename": "renaming",
    "os.truncate": "cutting",
    "os.path.exists": "a file of this machine",
    "shutil.rmtree": "removing folders",
    "shutil.copyfile": "a file of this machine",
    "shutil.move": "renaming",
    ".rename(": "renaming",
    'open("a': "appending",
    "mmap.mmap": "mapping",
}


def tricks(path: Path) -> list[str]:
    """What a file does that works on disks alone."""
    text = path.read_text(encoding="utf-8")
    found = [trick for trick in TRICKS if trick in text]
    # Of texts it takes two words, of paths one.
    renamed = re.search(r"(?<!dataclasses)\.replace\((?:[\w.]+(?: / [\w.]+)*)\)", text)
    return [*found, *([renamed[0]] if renamed else [])]


def test_no_trick_of_a_disk_but_where_stores_are_known():
    found = {}
    for folder_of_code in ("vssflow_jax", "data"):
        for path in (ROOT / folder_of_code).rglob("*.py"):
            knows = path.parent.name == "utils" and path.stem in KNOW_STORES
            if not knows and (used := tricks(path)):
                found[str(path.relative_to(ROOT))] = used
    assert not found


def test_paths_that_people_name_go_through_one_function():
    """`Path(...)` of a flag or a field would take a bucket for a folder of this machine."""
    for path in [*ROOT.glob("run_*.py"), *(ROOT / "vssflow_jax").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        named = re.search(r"(?<![\w.])Path\((?:\w+\.)*(?:values|config|given|flags\.FLAGS)\b", text)
        assert not named, f"{path}: {named and named[0]}; use files.as_path"


@pytest.mark.parametrize("line", ["partial.replace(path)", "import fcntl", "a.rename(b)"])
def test_a_trick_is_found(line: str, tmp_path: Path):
    file = tmp_path / "late.py"
    file.write_text(f"{line}\n")
    assert tricks(file)
