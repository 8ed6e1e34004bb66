"""How long the first batch of a large dataset takes, and in how much memory:

python -m benchmarks.index --workdir=DIR [--records=500000]

The records are as small as records can be, for it is their number that is looked at. The dataset is
made by the builder's own writer and kept in WORKDIR. Each side is a process of its own.
"""

import contextlib
import dataclasses
import functools
import io
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.memory import peak_gb
from data import shard_writer, shards
from vssflow_jax.clip import ClipSpec
from vssflow_jax.input_pipeline import dataset
from vssflow_jax.input_pipeline.batches import train_batches
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.mixture import Mixture
from vssflow_jax.input_pipeline.prefetch import ReadOptions

SPEC = ClipSpec(duration_sec=0.2)
WIDTHS = {"visual": 4, "sync": 4, "lips": 4, "speaker": 4}
TASKS = ("v2s", "visualtts")
CORPORA = ("LRS2", "LibriTTS")
BATCH_SIZE = 16

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the dataset", required=True)
_RECORDS = flags.DEFINE_integer("records", 500_000, "records of all tasks together")
_SIDE = flags.DEFINE_string("side", "", "used by this script itself: one of `SIDES`")


@dataclasses.dataclass(frozen=True)
class Side:
    """A way to read.

    Attributes:
      weights: of the tasks.
      bucket_sec: shorter windows, for which durations are read.
      speech_sources: corpora of speech, for which names are read.
      workers: processes that read.
    """

    weights: dict[str, float]
    bucket_sec: tuple[float, ...] = ()
    speech_sources: tuple[str, ...] = ()
    workers: int = 0


_NONE = dict.fromkeys(("v2s", "visualtts", "tts", "joint"), 0.0)
_MIXED = _NONE | {"v2s": 0.4, "visualtts": 0.4, "joint": 0.2}
SIDES = {
    "one task": Side(_NONE | {"v2s": 1.0}),
    "mixture with joint clips": Side(_MIXED),
    "and two windows, and a corpus": Side(_MIXED, (0.12,), CORPORA[:1]),
    "and two processes that read": Side(_MIXED, (0.12,), CORPORA[:1], workers=2),
}


@dataclasses.dataclass(frozen=True)
class Small:
    """Records with next to nothing in them."""

    def record(self, row: shard_writer.Row) -> dict[str, Any]:
        """See `data.shard_writer.Source`."""
        rng = np.random.default_rng(row["seed"])
        speech = row["task"] == "visualtts"
        texts = {"transcript": "", "voice": "", "video": ""}
        return texts | {
            "clip_id": row["clip_id"],
            "task": row["task"],
            "duration_sec": 0.08 if row["seed"] % 2 else SPEC.duration_sec,
            "audio": rng.integers(-(2**15), 2**15, SPEC.num_samples, np.int16),
            "phonemes": rng.integers(1, 71, 2 if speech else 0, np.int32),
            "visual": np.zeros((SPEC.visual_frames, 4), np.float16),
            "sync": np.zeros((SPEC.sync_frames, 4), np.float16),
            "lips": np.zeros((SPEC.video_frames, 4), np.float16),
            "speaker": np.zeros(4, np.float32),
        }


def main(argv: list[str]) -> None:
    del argv
    folder = Path(_WORKDIR.value) / "data"
    if _SIDE.value:
        print(json.dumps(first_batch(folder, SIDES[_SIDE.value])))
        return
    if not dataset.exists(folder):
        make(folder)
    found = list(folder.glob("vssflow/*/*.array_record*"))
    size = sum(path.stat().st_size for path in found)
    print(f"{_RECORDS.value} records, {len(found)} shards, {size / 1e9:.1f} GB")
    print("| | open, s | first batch, s | batches a second | GB before | GB | GB of a reader |")
    print("|---|---|---|---|---|---|---|")
    for name in SIDES:
        command = [sys.executable, "-m", "benchmarks.index", f"--side={name}"]
        done = subprocess.run(
            [*command, f"--workdir={_WORKDIR.value}"], stdout=subprocess.PIPE, check=True, text=True
        )
        row = json.loads(done.stdout.splitlines()[-1])
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in row) + " |", flush=True)


def make(folder: Path) -> None:
    """Write the dataset, as `data.build` would."""
    rows = [
        {
            "clip_id": f"{CORPORA[index // 2 % 2]}-{index:07d}",
            "split": "train",
            "task": TASKS[index % 2],
            "seed": index,
        }
        for index in range(_RECORDS.value)
    ]
    contents = shard_writer.Contents(rows, Small(), SPEC, WIDTHS, origin={})
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        run = functools.partial(pool.imap_unordered, shard_writer.write_shard)
        with contextlib.redirect_stdout(io.StringIO()):
            shards.build(folder, contents, run)
    print(f"written in {time.perf_counter() - started:.0f} s, {peak_gb():.2f} GB")


def first_batch(folder: Path, side: Side) -> list[float]:
    """The cells of a row of the table."""
    before, started = peak_gb(), time.perf_counter()
    opened = Dataset(folder, SPEC)
    mixture = Mixture(side.weights, 1.0, ("add", "insert"), side.speech_sources)
    options = ReadOptions(workers=side.workers)
    batches = iter(
        train_batches(
            opened, mixture, BATCH_SIZE, 0, read_options=options, bucket_sec=side.bucket_sec
        )
    )
    open_sec = time.perf_counter() - started
    next(batches)
    first_sec = time.perf_counter() - started
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < 5:
        next(batches)
        count += 1
    rate, gb = count / (time.perf_counter() - started), peak_gb()
    processes = multiprocessing.active_children()
    readers = max((peak_gb(process.pid) for process in processes if process.pid), default=0.0)
    batches.close()
    return [open_sec, first_sec, rate, before, gb, readers]


if __name__ == "__main__":
    app.run(main)
