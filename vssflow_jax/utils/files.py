"""Small files that are written whole, or row by row."""

import contextlib
import csv
import io
import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


class JsonLines(contextlib.AbstractContextManager["JsonLines"]):
    """Appends rows to a file; a row that a kill cut short is dropped on opening."""

    def __init__(self, path: Path):
        if path.is_file():
            os.truncate(path, len(whole_lines(path)))
        self._file = path.open("a")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row and hand it to the system at once."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def __exit__(self, *error: object) -> None:
        self._file.close()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a small file so that it is there whole or not at all."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")  # another may write it too
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table with the columns `names`, whole or not at all; what a row lacks is empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def whole_lines(path: Path) -> bytes:
    """The file but for a last line that a kill cut short."""
    text = path.read_bytes()
    return text[: text.rfind(b"\n") + 1]
