"""How long the demo's steps wait for data from a bucket that nothing has been read of yet:

python -m benchmarks.cold_bucket --data=runs/demo-data [--latency_ms=20] [--steps=60]

The buckets are emulators on this machine (extra `test`), each behind a proxy that holds every
answer back. The rows are what `throughput.jsonl` of each training says.
"""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import app, flags

from tests import buckets
from tests.faulty import Faults, before
from vssflow_jax.run.workdir import rows
from vssflow_jax.utils.files import as_path, copy

_DATA = flags.DEFINE_string("data", "runs/demo-data", "the demo's dataset")
_LATENCY_MS = flags.DEFINE_float("latency_ms", 20.0, "before each answer of the store")
_STEPS = flags.DEFINE_integer("steps", 60, "of training")


def main(argv: list[str]) -> None:
    del argv
    data = Path(_DATA.value)
    print("| data on | steps a second | waiting for data |")
    print("|---|---|---|")
    print(row("a disk", data, {}), flush=True)
    with buckets.running() as variables:
        os.environ |= variables
        for scheme in buckets.SCHEMES:
            folder = as_path(f"{scheme}://{buckets.BUCKET}/data")
            for path in data.rglob("*"):
                if path.is_file():
                    copy(path, folder / str(path.relative_to(data)))
            with proxy(scheme, _LATENCY_MS.value / 1000) as slow:
                print(row(f"{scheme}://", folder, slow), flush=True)


@contextlib.contextmanager
def proxy(scheme: str, delay_sec: float) -> Iterator[dict[str, str]]:
    """The variables that point clients to a slow store, which is a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(scheme, delay_sec, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join()


def serve(scheme: str, delay_sec: float, pipe: Any) -> None:
    """Be the proxy until a message comes."""
    with before(scheme, Faults(delay_sec=delay_sec)) as variables:
        pipe.send(variables)
        pipe.recv()


def row(name: str, data: Path, variables: dict[str, str]) -> str:
    """A line of the table: means over the steps of a training."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder, "run")
        overrides = {
            "data.path": data,
            "data.cache_dir": Path(folder, "cache") if str(data).startswith("s3") else "",
            "train.steps": _STEPS.value,
            "train.held_out_every": 0,
            "eval.after_training": False,
        }
        command = [sys.executable, "run_train.py", "--config=configs/demo.py"]
        command += [f"--workdir={workdir}"]
        command += [f"--config.{field}={value}" for field, value in overrides.items()]
        log = subprocess.DEVNULL
        subprocess.run(command, env=os.environ | variables, check=True, stdout=log, stderr=log)
        # The last row, of what is saved at the end, has no steps.
        found = [line for line in rows(workdir, "throughput.jsonl") if "steps_per_sec" in line]
    speed, wait = (
        sum(line[field] for line in found) / len(found) for field in ("steps_per_sec", "data_wait")
    )
    return f"| {name} | {speed:.2f} | {wait:.2%} |"


if __name__ == "__main__":
    app.run(main)
