"""Small files of a run beside its checkpoints: rows of what was measured.

Of many processes only the main one writes them.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vssflow_jax.parallel import distributed


class JsonLines(contextlib.AbstractContextManager["JsonLines"]):
    """Appends rows to a file; a row that a kill cut short is dropped on opening."""

    def __init__(self, path: Path):
        if path.is_file():
            os.truncate(path, len(_whole_lines(path)))
        self._file = path.open("a")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row and hand it to the system at once."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def __exit__(self, *error: object) -> None:
        self._file.close()


class MetricsLog(JsonLines):
    """Appends rows to `metrics.jsonl`, or to another such file of the workdir."""

    def __init__(self, workdir: Path, name: str = "metrics.jsonl"):
        super().__init__(workdir / name if distributed.is_main() else Path(os.devnull))


def read_metrics(workdir: Path) -> list[dict[str, float]]:
    """Rows of `metrics.jsonl` by step; where a step was run twice the last row counts."""
    path = workdir / "metrics.jsonl"
    lines = _whole_lines(path).splitlines() if path.exists() else []
    rows = {row["step"]: row for row in map(json.loads, lines)}
    return [rows[step] for step in sorted(rows)]


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def _whole_lines(path: Path) -> bytes:
    """The file but for a last line that a kill cut short."""
    text = path.read_bytes()
    return text[: text.rfind(b"\n") + 1]
