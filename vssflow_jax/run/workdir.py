"""Small files of a run beside its checkpoints: rows of what was measured.

Of many processes only the main one writes them.
"""

import json
import os
from pathlib import Path
from typing import Any

from vssflow_jax.parallel import distributed
from vssflow_jax.utils.files import whole_lines
from vssflow_jax.utils.logs import JsonLines

METRICS, HELD_OUT, BAD_STEPS = "metrics.jsonl", "held_out.jsonl", "bad_steps.jsonl"
THROUGHPUT = "throughput.jsonl"


class MetricsLog(JsonLines):
    """Appends rows to `metrics.jsonl`, or to another such file of the workdir."""

    def __init__(self, workdir: Path, name: str = METRICS):
        super().__init__(workdir / name if distributed.is_main() else Path(os.devnull))


def read_metrics(workdir: Path, name: str = METRICS) -> list[dict[str, float]]:
    """Rows of `metrics.jsonl`, or another, by step; of a step that was run twice the last one."""
    by_step = {row["step"]: row for row in rows(workdir, name)}
    return [by_step[step] for step in sorted(by_step)]


def rows(workdir: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a file of the workdir as they were written; none where there is no file."""
    path = workdir / name
    return [json.loads(line) for line in whole_lines(path).splitlines()] if path.exists() else []
