"""A plan as a picture: memory of a device against its limit, and where the time of a step goes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vssflow_jax.plan.report import MEMORY_PARTS, TIME_PARTS, Row
from vssflow_jax.utils.files import whole
from vssflow_jax.utils.optional import require

_COLOURS = ("#33608c", "#5b9bd5", "#a5c8e4", "#7f7f7f", "#b9b9b9", "#f0a04b")
_TIME_COLOURS = {
    "compute_sec": "#33608c",
    "memory_sec": "#f0a04b",
    "network_exposed_sec": "#7aa95c",
    "dcn_exposed_sec": "#b0413e",
}
_BY_XLA = {"compiler": "|", "cycles": "x"}  # markers
_GB, _MS = 1e9, 1e-3


def check() -> None:
    """Checks that pictures can be drawn.

    Raises:
      UserError: matplotlib is not installed.
    """
    require("matplotlib", "plan")


def draw(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Write the picture of the strategies that could be planned, as PNG."""
    matplotlib = require("matplotlib", "plan")
    matplotlib.use("Agg")
    pyplot = require("matplotlib.pyplot", "plan")
    rows = [row for row in rows if "error" not in row]
    height = 2 + 0.45 * max(2, len(rows))
    figure, (memory, times) = pyplot.subplots(1, 2, figsize=(12, height), layout="constrained")
    figure.suptitle(title, fontweight="bold")
    _draw_memory(memory, rows)
    _draw_times(times, rows)
    for axes in (memory, times):
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(
            loc="lower center",
            bbox_to_anchor=(0.5, 1),
            ncols=6,
            frameon=False,
            fontsize="small",
            columnspacing=1.2,
        )
    with whole(path) as partial:
        figure.savefig(partial, dpi=130, format="png")
    pyplot.close(figure)


def _draw_memory(axes: Any, rows: Sequence[Row]) -> None:
    names = [row["strategy"] for row in rows]
    left = [0.0] * len(rows)
    for part, colour in zip(MEMORY_PARTS, _COLOURS, strict=True):
        sizes = [(row["memory"][part] or 0) / _GB for row in rows]
        if any(sizes):
            axes.barh(names, sizes, left=left, color=colour, label=part, height=0.6)
        left = [start + size for start, size in zip(left, sizes, strict=True)]
    limit = rows[0]["memory_limit"]
    if limit:
        axes.axvline(limit / _GB, color="#c0392b", linestyle="--")
        place = axes.get_xaxis_transform()
        axes.text(limit / _GB, 1, "limit ", transform=place, ha="right", va="top", color="#c0392b")
    axes.set_xlabel("GB on each device, at the peak")


def _draw_times(axes: Any, rows: Sequence[Row]) -> None:
    """Computing and memory at once, side by side in a bar; then what is exposed of the networks."""
    names = [row["strategy"] for row in rows]
    if all("estimate" in row for row in rows):
        times = {part: [row["estimate"][part] / _MS for row in rows] for part in TIME_PARTS}
        positions, at_once = np.arange(len(rows)), [0.0] * len(rows)
        longer = [*map(max, times["compute_sec"], times["memory_sec"])]
        network = np.add(longer, times["network_exposed_sec"])
        bars = zip(TIME_PARTS, (-0.15, 0.15, 0.0, 0.0), (0.3, 0.3, 0.6, 0.6), strict=True)
        starts = (at_once, at_once, longer, network)
        for (part, offset, height), left in zip(bars, starts, strict=True):
            if part == "dcn_exposed_sec" and rows[0]["slices"] == 1:
                continue
            axes.barh(
                positions + offset,
                times[part],
                left=left,
                color=_TIME_COLOURS[part],
                label=part.removesuffix("_sec").replace("_", " "),
                height=height,
            )
        axes.set_yticks(positions, names)
        axes.set_xlabel(
            "ms of a step, estimated: the longer of compute and memory, then what is exposed"
        )
        for group, marker in _BY_XLA.items():
            if all(group in row for row in rows):
                by_xla = [row[group]["step_sec"] / _MS for row in rows]
                label = f"XLA: {group}"
                axes.plot(by_xla, positions, marker, color="k", markersize=9, label=label)
    if all("measured" in row for row in rows):
        seconds = [row["measured"]["step_sec"] / _MS for row in rows]
        axes.plot(seconds, names, "kD", markersize=5, label="measured")
        if not any("estimate" in row for row in rows):
            axes.set_xlabel("ms of a step, measured")
            axes.set_xlim(left=0)
