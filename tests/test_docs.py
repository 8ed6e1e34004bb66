"""The commands that the documents show: programs, flags and fields of configs that there are."""

import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import ml_collections
import pytest

from configs import common, duration
from tests import tiny

PAGES = [tiny.ROOT / "README.md", *sorted((tiny.ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"\bpython (-m [\w.]+|\w+\.py)([^\n|;&)\"]*)")
_FLAG = re.compile(r"(?<=\s)--([\w.-]*\w)")
_FIELD = re.compile(r"--config\.([\w.]*\w)")
_DEFINED = re.compile(r"^ *-?-(?:\[no\])?([\w-]+):", re.MULTILINE)


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The programs that the blocks of a page start, and the flags that each is given."""
    for block in _BLOCK.findall(page.read_text()):
        for program, arguments in _COMMAND.findall(block.replace("\\\n", " ")):
            yield program, _FLAG.findall(arguments)


@functools.cache
def defined(program: str) -> set[str]:
    """The flags that a program of ours says it has."""
    done = tiny.run([sys.executable, *program.split(), "--helpfull"])
    assert done.returncode == 1, done.stderr  # which is absl's for help
    return {*_DEFINED.findall(done.stdout)}


def is_ours(program: str) -> bool:
    """Whether a program, as it stands after `python`, is one of this repository."""
    name = program.removeprefix("-m ")
    ours = ("vssflow_jax", "data", "benchmarks")
    return (tiny.ROOT / name).is_file() or name.partition(".")[0] in ours


PROGRAMS = sorted({x for page in PAGES for x, _ in commands(page) if is_ours(x)})


def test_commands_are_found():
    assert {"run_train.py", "run_eval.py", "-m vssflow_jax.plan", "-m data.build"} <= {*PROGRAMS}
    assert ("run_train.py", ["workdir", "config.train.steps"]) in [
        *commands(tiny.ROOT / "docs" / "runs.md")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_flags_are_those_of_the_program(program: str) -> None:
    shown = {
        (page.name, flag)
        for page in PAGES
        for shown_program, given in commands(page)
        for flag in given
        if shown_program == program and not flag.startswith("config.")
    }
    assert not {(page, flag) for page, flag in shown if flag not in defined(program)}


def has(config: ml_collections.ConfigDict, field: str) -> bool:
    """Whether a config has a field or section."""
    for part in field.split("."):
        if not isinstance(config, ml_collections.ConfigDict) or part not in config:
            return False
        config = config[part]
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_fields_are_those_of_a_config(page: Path) -> None:
    configs = common.get_config(), duration.get_config()
    fields = {*_FIELD.findall(page.read_text())}
    assert not {x for x in fields if not any(has(config, x) for config in configs)}
