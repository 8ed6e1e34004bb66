"""Small files of a run beside its checkpoints: rows of what was measured, and its own id.

Of many processes only the main one writes them.
"""

import json
import os
import secrets
import zlib
from pathlib import Path
from typing import Any

from vssflow_jax.parallel import distributed
from vssflow_jax.utils.files import whole_lines, write_atomically
from vssflow_jax.utils.logs import JsonLines

METRICS, HELD_OUT, BAD_STEPS = "metrics.jsonl", "held_out.jsonl", "bad_steps.jsonl"
THROUGHPUT = "throughput.jsonl"
RUN_ID = "run_id"


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


def run_id(workdir: Path) -> str:
    """The id of a run, made when it is first asked for; only the main process asks."""
    path = workdir / RUN_ID
    if not path.is_file():
        write_atomically(path, secrets.token_hex(4))
    return path.read_text().strip()


def number_of(workdir: Path) -> int:
    """Tells the run in a folder from one before it there, and from its copies elsewhere.

    The same for all processes, each of which comes by here.
    """
    number = 0
    if distributed.is_main():
        number = zlib.crc32(f"{run_id(workdir)} {workdir.absolute()}".encode()) >> 1  # an int32
    return distributed.of_main(number)
