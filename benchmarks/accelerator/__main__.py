"""What one GPU or TPU does with this code, in 8 minutes:

python -m benchmarks.accelerator --out=DIR [--minutes=8] [--only=train,sampling] [--quick]

It needs jax, flax, optax, orbax and numpy, and shows PyTorch beside them where it is installed.
DIR gets `accelerator.md` and `accelerator.json`, anew after each row, so that a run that is cut
keeps what it has. Parts come in the order of what they tell, each in a process of its own on the
first device; what there was no time for is a row too. `--quick` does the same on a CPU, small.
It ends with exit code 1 if a part died, or the device computes something else than the CPU.
"""

import argparse
import datetime
import importlib.metadata
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accelerator.items import FAILED, LEFT_OUT, WRONG
from benchmarks.accelerator.parts import PARTS, work
from benchmarks.accelerator.report import Report

_GRACE_SEC = 60  # for an item that was begun in time
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch")
_DIED = "process ended with"


def main() -> int:
    values = _arguments(sys.argv[1:])
    if values.quick:
        os.environ["JAX_PLATFORMS"] = "cpu"
    report = Report(values.out, " ".join(["python -m benchmarks.accelerator", *sys.argv[1:]]))
    report.about |= {"date": f"{datetime.date.today()}", **_versions()}
    deadline = time.time() + 60 * values.minutes
    for part in values.only:
        if time.time() < deadline:
            _run(part, values.quick, deadline, report)
        else:
            report.add(part, {"item": "all", "result": LEFT_OUT})
    print(report.table())
    bad = (FAILED, WRONG, _DIED)
    return int(any(row.get("result", "").startswith(bad) for row in report.rows))


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accelerator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing is begun")
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="the demo's size, on a CPU")
    return parser.parse_args(given)


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part '{unknown[0]}'; choose of {', '.join(PARTS)}")
    return names


def _run(part: str, quick: bool, deadline: float, report: Report) -> None:
    """Run a part in a process of its own, and take its rows as they come."""
    context = multiprocessing.get_context("spawn")
    messages, rows_to = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(part, quick, deadline, rows_to), daemon=True)
    process.start()
    rows_to.close()
    try:
        while messages.poll(max(0.0, deadline + _GRACE_SEC - time.time())):
            message = messages.recv()
            if "item" in message:
                print(f"{part}: {message}", file=sys.stderr, flush=True)
                report.add(part, message)
            else:
                report.about |= message
        report.add(part, {"item": "the rest", "result": LEFT_OUT})
        process.kill()
        process.join()
    except EOFError:
        process.join()
        if process.exitcode:
            report.add(part, {"item": "the rest", "result": f"{_DIED} {process.exitcode}"})


def _versions() -> dict[str, str]:
    found = {x.metadata["Name"]: x.version for x in importlib.metadata.distributions()}
    return {"python": platform.python_version()} | {x: found[x] for x in _PACKAGES if x in found}


if __name__ == "__main__":
    sys.exit(main())
