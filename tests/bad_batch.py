"""Runs with a batch that holds a NaN, and one that never had it, on all devices there are:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.bad_batch DATA OUT

OUT gets the folder of a run for each, by the names of `RUNS`. Each of the processes of a job does
so with `--distributed`.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests import tiny
from vssflow_jax.input_pipeline.prefetch import Batches, Made
from vssflow_jax.parallel import distributed
from vssflow_jax.train import setup

BAD = 4  # number of the batch, from 0
ROW = 3  # of the clip in it, or in what a process reads of it
Change = Callable[[Batches], Batches]


def with_nan(batches: Batches) -> Batches:
    def spoil(number: int, made: Made) -> Made:
        if number == BAD:
            made.example["waveform"][ROW, 1000] = np.nan
        return made

    return Batches(batches.made.map_with_index(spoil), batches.read_options)


def without(batches: Batches) -> Batches:
    kept = batches.made.slice(slice(BAD)), batches.made.slice(slice(BAD + 1, None))
    return Batches(type(batches.made).concatenate(kept), batches.read_options)


RUNS: dict[str, tuple[str, Change]] = {
    "skip": ("skip", with_nan),
    "rewind": ("rewind", with_nan),
    "without": ("stop", without),
}


@contextmanager
def changed(change: Change) -> Iterator[None]:
    """Training reads other batches meanwhile."""
    read = setup.train_batches
    setup.train_batches = lambda *given: change(read(*given))
    try:
        yield
    finally:
        setup.train_batches = read


def train(data: Path, workdir: Path, name: str, **changes: Any) -> None:
    """One of `RUNS`."""
    then, change = RUNS[name]
    given = {"train__steps": 7, "train__checkpoint_every": 3, "train__bad_step": then, **changes}
    with changed(change):
        assert tiny.train(tiny.config(data, **given), workdir)


def main(data: Path, out: Path, flag: str = "") -> None:
    distributed.start(flag == "--distributed")
    assert jax.device_count() == 8
    for name in RUNS:
        train(data, out / name, name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
