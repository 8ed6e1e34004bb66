"""Datasets of noise whose clips last as long as a test says."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data import shard_writer, shards
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.phonemes import IDS
from vssflow_jax.features.weights_free import WEIGHTS_FREE

SPEC = ClipSpec(duration_sec=3.0)
WIDTHS = WEIGHTS_FREE.widths
PHONEMES = 5


@dataclasses.dataclass(frozen=True)
class Noise:
    """Clips of the tasks and durations that rows name."""

    def record(self, row: shard_writer.Row) -> dict[str, Any]:
        """See `data.shard_writer.Source`."""
        rng = np.random.default_rng(row["number"])
        seconds = row["duration_sec"]
        frames = {"visual": SPEC.visual_frames, "sync": SPEC.sync_frames}
        frames["lips"] = round(seconds * SPEC.video_rate)
        features = {
            name: rng.standard_normal((count, WIDTHS[name])) for name, count in frames.items()
        }
        return {
            **dict.fromkeys(("transcript", "voice", "video"), ""),
            **{name: row[name] for name in ("clip_id", "task", "duration_sec")},
            **features,
            "audio": rng.integers(1, 2**15, round(seconds * SPEC.sampling_rate), np.int16),
            "phonemes": rng.integers(1, len(IDS), 0 if row["task"] == "v2s" else PHONEMES),
            "speaker": rng.standard_normal(WIDTHS["speaker"]),
        }


def make(folder: Path, **durations_sec: Sequence[float]) -> None:
    """Training clips of each task, as many as there are durations."""
    tasks = [(task, seconds) for task, lengths in durations_sec.items() for seconds in lengths]
    rows = [
        {"clip_id": f"c{i}", "split": "train", "task": task, "duration_sec": sec, "number": i}
        for i, (task, sec) in enumerate(tasks)
    ]
    contents = shard_writer.Contents(shards.scattered(rows), Noise(), SPEC, WIDTHS, origin={})
    shards.build(
        folder, contents, lambda jobs: map(shard_writer.write_shard, jobs), clips_per_shard=7
    )
