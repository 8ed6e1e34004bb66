"""Clips a second and core of the input pipeline, beside plain TFDS and the bare reading of shards.

python -m benchmarks.input

All sides read the same records of full size, about 1.4 MB, from the page cache. What is counted is
the time of all threads on a core, so that a busy machine changes little.
"""

import contextlib
import dataclasses
import io
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource

from data import shard_writer, shards
from vssflow_jax.clip import ClipSpec
from vssflow_jax.input_pipeline.batches import train_batches
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.mixture import Mixture

CLIPS = 256  # of each task; much fewer take long to shuffle
BATCH_SIZE = 16
ROUNDS = 9
BATCHES = 6  # a round
SPEC = ClipSpec()
WIDTHS = {"visual": 768, "sync": 768, "lips": 1024, "speaker": 256}
TASKS = ("v2s", "visualtts")
SPEECH_SEC = 4.0
PHONEMES = 40
# The kinds of clips in about the shares of the demo.
MIXED = {"v2s": 0.3, "visualtts": 0.45, "tts": 0.05, "joint": 0.2}

Side = Callable[[int], object]  # reads so many clips


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as closing:
        sides = make_sides(Path(folder), closing)
        clips = BATCHES * BATCH_SIZE
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(1 + ROUNDS):  # turn by turn, so that a noisy machine is noisy for all
            for name, read in sides.items():
                started = time.process_time()
                read(clips)
                if turn:  # the first warms up
                    rates[name].append(clips / (time.process_time() - started))
    print(f"clips a second and core, median of {ROUNDS} rounds; {os.cpu_count()} cores")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        raw, plain = rate / medians["raw shards"], rate / medians["plain TFDS"]
        print(f"{name:24} {rate:7.0f}   {raw:5.2f} x raw   {plain:5.1f} x TFDS")


def make_sides(folder: Path, closing: contextlib.ExitStack) -> dict[str, Side]:
    """What is measured, by name, on datasets made in `folder`."""
    rows = [
        {"clip_id": f"{task}-{index}", "split": "train", "task": task, "seed": index}
        for task in TASKS
        for index in range(CLIPS)
    ]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        contents = shard_writer.Contents(rows, Noise(), SPEC, WIDTHS, origin={})
        shards.build(folder, contents, lambda jobs: map(shard_writer.write_shard, jobs))
        plain = Plain(data_dir=folder, file_format="array_record")
        plain.download_and_prepare()
    dataset = Dataset(folder, SPEC)
    files = sorted(map(str, folder.glob("vssflow/*/*train_visualtts*")))
    batches = {
        "batches, one task": {"v2s": 0.0, "visualtts": 1.0, "tts": 0.0, "joint": 0.0},
        "batches, mixed": MIXED,
        "batches, all synthetic": {"v2s": 0.0, "visualtts": 0.0, "tts": 0.0, "joint": 1.0},
    }
    sides = {
        "plain TFDS": one_by_one(plain.as_data_source("train")),
        "raw shards": one_by_one(ArrayRecordDataSource(files)),
        "clips": one_by_one(dataset.clips("train", "visualtts")),
    }
    for name, weights in batches.items():
        mixture = Mixture(weights, 1.0, joint_modes=("add", "insert"), speech_sources=())
        made = iter(train_batches(dataset, mixture, BATCH_SIZE, seed=0))
        closing.enter_context(contextlib.closing(made))
        sides[name] = batch_by_batch(made)
    return sides


def one_by_one(source: Any) -> Side:
    """Reads a source's records in a random order."""
    indices = itertools.cycle(np.random.default_rng(0).permutation(len(source)).tolist())

    def read(clips: int) -> None:
        for index in itertools.islice(indices, clips):
            source[index]

    return read


def batch_by_batch(batches: Iterator[Any]) -> Side:
    """Takes batches; as many are made meanwhile, since so many are made ahead at most."""

    def read(clips: int) -> None:
        for _ in range(clips // BATCH_SIZE):
            next(batches)

    return read


def features(task: str, rng: np.random.Generator) -> dict[str, Any]:
    """Noise in the shapes of the paper's features; sounds have lips here too, to be as large."""

    def frames(count: int, width: int) -> np.ndarray:
        return rng.standard_normal((count, width), np.float32).astype(np.float16)

    speech = task == "visualtts"
    return {
        "task": task,
        "duration_sec": SPEECH_SEC if speech else SPEC.duration_sec,
        "audio": rng.integers(-(2**15), 2**15, SPEC.num_samples, np.int16),
        "phonemes": rng.integers(1, 71, PHONEMES if speech else 0, np.int32),
        "visual": frames(SPEC.visual_frames, WIDTHS["visual"]),
        "sync": frames(SPEC.sync_frames, WIDTHS["sync"]),
        "lips": frames(SPEC.video_frames, WIDTHS["lips"]),
        "speaker": rng.standard_normal(WIDTHS["speaker"], np.float32),
    }


@dataclasses.dataclass(frozen=True)
class Noise:
    """Records of noise for our own shards."""

    def record(self, row: shard_writer.Row) -> dict[str, Any]:
        """See `data.shard_writer.Source`."""
        texts = {"clip_id": row["clip_id"], "transcript": "", "voice": "", "video": ""}
        return texts | features(row["task"], np.random.default_rng(row["seed"]))


class Plain(tfds.core.GeneratorBasedBuilder):
    """The same clips with speech as TFDS would have them, each array a tensor of its type."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        def tensor(dtype: Any, *shape: int | None) -> tfds.features.Tensor:
            return tfds.features.Tensor(shape=shape, dtype=dtype)

        fields = {
            "task": tfds.features.Text(),
            "duration_sec": np.float32,
            "audio": tensor(np.int16, None),
            "phonemes": tensor(np.int32, None),
            **{name: tensor(np.float16, None, WIDTHS[name]) for name in ("visual", "sync", "lips")},
            "speaker": tensor(np.float32, WIDTHS["speaker"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(fields))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Any]]]:
        del dl_manager
        return {"train": self._generate_examples(range(CLIPS))}

    def _generate_examples(self, indices: Sequence[int]) -> Iterator[tuple[int, Any]]:
        for index in indices:
            yield index, features("visualtts", np.random.default_rng(index))


if __name__ == "__main__":
    main()
