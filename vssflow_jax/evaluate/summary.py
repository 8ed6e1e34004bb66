"""Rows of clips to the scores of a benchmark, each with its interval."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vssflow_jax.evaluate.metrics.bootstrap import interval
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.files import write_atomically

Score = dict[str, float | int | None]


def scores(rows: Sequence[Row], names: Sequence[str], versions: Sequence[str]) -> dict[str, Any]:
    """name -> version -> value, low and high end of its interval, clips; of those that clips have.

    The ends are None where there are too few clips for an interval.
    """
    found: dict[str, Any] = {}
    for name in names:
        for version in versions:
            fractions = [
                row.scores[version][name] for row in rows if name in row.scores.get(version, {})
            ]
            if sum(below for _, below in fractions):
                found.setdefault(name, {})[version] = score(fractions)
    return found


def score(fractions: Sequence[tuple[float, float]]) -> Score:
    """The ratio of the sums of what clips add above and below, with its interval."""
    above, below = np.array(fractions, np.float64).T
    low, high = interval(above, below)
    value = float(above.sum() / below.sum())
    return {"value": value, "low": low, "high": high, "clips": len(fractions)}


def without_interval(values: Mapping[str, float], clips: int) -> dict[str, Score]:
    """Scores of sets, which have none (`metrics.bootstrap` says why)."""
    return {
        version: {"value": value, "low": None, "high": None, "clips": clips}
        for version, value in values.items()
    }


def of_clip(row: Row) -> dict[str, float]:
    """The scores of one generated clip, those that it has."""
    own = row.scores.get("generated", {})
    return {name: above / below for name, (above, below) in own.items() if below}


def write_per_clip(path: Path, rows: Sequence[Row]) -> None:
    """Write a line of scores for each clip that did not fail."""
    names = sorted({name for row in rows for name in of_clip(row)})
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["clip_id", "task", "transcript", "recognised", *names])
    for row in rows:
        own = of_clip(row)
        values = [f"{own[name]:.4f}" if name in own else "" for name in names]
        heard = row.recognised.get("generated", "")
        writer.writerow([row.clip_id, row.task, row.transcript, heard, *values])
    write_atomically(path, text.getvalue())
