"""One table and one JSON of all rows, written anew after each of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.accelerator.items import Row
from vssflow_jax.utils.files import write_atomically

COLUMNS = {
    "part": ("part", ""),
    "item": ("item", ""),
    "result": ("", ""),
    "ms": ("ms", ".3g"),
    "clips_per_sec": ("clips/s", ".3g"),
    "tflops": ("TFLOP/s", ".3g"),
    "mfu": ("MFU", ".0%"),
    "of_matmul": ("of matmul", ".0%"),
    "gb": ("GB", ".3g"),
    "times_jax": ("x JAX", ".2f"),
    "item_sec": ("all, s", ".1f"),
}
"""Key in JSON -> heading and format in the table."""
_LEGEND = (
    "MFU: of the peak that the maker says; of matmul: of the best product here; x JAX: the time "
    "beside that of JAX for the same work; all: with compilation. Random weights and inputs."
)


class Report:
    """What has been measured so far.

    Args:
      out: folder of `accelerator.md` and `accelerator.json`.
      command: how it was asked for.
    """

    def __init__(self, out: Path, command: str):
        self.rows: list[Row] = []
        self.about: dict[str, Any] = {"command": command}
        self._out = out

    def add(self, part: str, row: Row) -> None:
        """A row more, which is written."""
        self.rows.append({"part": part, **row})
        self.write()

    def write(self) -> None:
        """Both files, each whole at any time."""
        self._out.mkdir(parents=True, exist_ok=True)
        rows = [*self._derived()]
        values = json.dumps({**self.about, "rows": rows}, indent=1)
        write_atomically(self._out / "accelerator.json", f"{values}\n")
        write_atomically(self._out / "accelerator.md", self.table())

    def table(self) -> str:
        """All rows in Markdown, under what they are of."""
        rows = [*self._derived()]
        shown = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)]
        heads = [COLUMNS[key][0] for key in shown]
        lines = [heads, ["---" for _ in shown]]
        lines += [[_cell(row.get(key), COLUMNS[key][1]) for key in shown] for row in rows]
        about = "\n".join(f"- {name}: {value}" for name, value in self.about.items())
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"# Accelerator\n\n{about}\n\n{table}\n\n{_LEGEND}\n"

    def _derived(self) -> Iterator[Row]:
        """The rows, with what follows from others."""
        ceiling = max((x["tflops"] for x in self._of("matmul") if "tflops" in x), default=None)
        ours = {x["pair"]: x["ms"] for x in self.rows if "pair" in x and x["part"] != "torch"}
        for row in self.rows:
            more: Row = {}
            if ceiling and "tflops" in row:
                more["of_matmul"] = row["tflops"] / ceiling
            if row["part"] == "torch" and row.get("pair") in ours:
                more["times_jax"] = row["ms"] / ours[row["pair"]]
            yield {**row, **more}

    def _of(self, part: str) -> list[Row]:
        return [row for row in self.rows if row["part"] == part]


def _cell(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)
