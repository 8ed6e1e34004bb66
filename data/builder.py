"""The TFDS builder: manifest rows and media files to ArrayRecord shards (`docs/data.md`)."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import io
import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from data.features import Encoders
from vssflow_jax import dataset, media
from vssflow_jax.clip import LATENT_CHANNELS, ClipSpec, fit_length
from vssflow_jax.errors import UserError
from vssflow_jax.phonemes import BLANK, phoneme_ids, phonemes

Row = Mapping[str, Any]
Posterior = Callable[[np.ndarray], np.ndarray]

SHARDS = 4
_INT16_MAX = 32767
_FPS_TOLERANCE = 0.01


class Vssflow(tfds.core.GeneratorBasedBuilder):
    """Records of the schema that `vssflow_jax.dataset` reads; a split for each part and task.

    Args:
      root: folder of the manifest's media files; the dataset is written below it.
      rows: manifest rows.
      encoders: of the features.
      spec: geometry of the clips.
      posterior: from int16 samples to what a codec knows of their latents [t, 2 c], or no frames.
      origin: what the rows were made from, kept in the metadata.
      pool: of the processes that extract features.
      bar: shows how many clips are done.
    """

    name = dataset.NAME
    VERSION = tfds.core.Version(dataset.SCHEMA_VERSION)

    def __init__(
        self,
        root: Path,
        rows: Sequence[Row],
        encoders: Encoders,
        spec: ClipSpec,
        posterior: Posterior,
        origin: Mapping[str, Any],
        pool: concurrent.futures.Executor,
        bar: tqdm.tqdm,
    ):
        self._root = root
        self._rows = rows
        self._encoders = encoders
        self._spec = spec
        self._posterior = posterior
        self._origin = origin
        self._pool = pool
        self._bar = bar
        super().__init__(data_dir=root, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        frames, ids = tfds.features.Tensor, tfds.features.Text
        encoders = self._encoders
        return tfds.core.DatasetInfo(
            builder=self,
            description="Precomputed video, voice and phoneme features beside the sound.",
            features=tfds.features.FeaturesDict(
                {
                    "schema_version": ids(),
                    "clip_id": ids(),
                    "task": ids(),
                    "transcript": ids(),
                    "voice": ids(),
                    "video": ids(),
                    "duration_sec": np.float32,
                    "event_times_sec": frames(shape=(None,), dtype=np.float32),
                    "audio": frames(shape=(None,), dtype=np.int16),
                    "posterior": frames(shape=(None, 2 * LATENT_CHANNELS), dtype=np.float32),
                    "phonemes": frames(shape=(None,), dtype=np.int32),
                    "phoneme_frames": frames(shape=(None,), dtype=np.int32),
                    "clip": frames(shape=(None, encoders.clip.width), dtype=np.float16),
                    "synch": frames(shape=(None, encoders.synch.width), dtype=np.float16),
                    "lips": frames(shape=(None, encoders.lips.width), dtype=np.float16),
                    "speaker": frames(shape=(encoders.speaker.width,), dtype=np.float32),
                }
            ),
            metadata=tfds.core.MetadataDict(
                schema_version=dataset.SCHEMA_VERSION,
                clip=dataclasses.asdict(self._spec),
                origin=dict(self._origin),
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, Row]]]:
        splits: dict[str, list[Row]] = {}
        for row in self._rows:
            splits.setdefault(f"{row['split']}_{row['task']}", []).append(row)
        return {name: self._generate_examples(splits[name]) for name in sorted(splits)}

    def _generate_examples(self, rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
        speakers = {sample: self._speaker(sample) for sample in {r["voice_sample"] for r in rows}}
        extract = functools.partial(_record, self._root, self._encoders, self._spec)
        for row, record in zip(rows, self._pool.map(extract, rows, chunksize=4), strict=True):
            speaker, posterior = speakers[row["voice_sample"]], self._posterior(record["audio"])
            yield row["clip_id"], {**record, "speaker": speaker, "posterior": posterior}
            self._bar.update()

    def _speaker(self, sample: str) -> np.ndarray:
        if not sample:
            return np.zeros(self._encoders.speaker.width, np.float32)
        waveform = media.read_audio(self._root / sample, self._spec.sampling_rate)
        return self._encoders.speaker(waveform)


def build(
    root: Path,
    rows: Sequence[Row],
    encoders: Encoders,
    spec: ClipSpec,
    posterior: Posterior,
    origin: Mapping[str, Any],
    workers: int,
) -> None:
    """Write the dataset of `rows`; see `Vssflow` for the arguments.

    There are `SHARDS` shards a split, or fewer where the smallest split has fewer clips.
    """
    smallest = min(Counter((row["split"], row["task"]) for row in rows).values())
    config = tfds.download.DownloadConfig(num_shards=min(SHARDS, smallest))
    tfds.disable_progress_bar()
    with (
        # Spawned, since a process that has started JAX must not be forked.
        concurrent.futures.ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn")
        ) as pool,
        tqdm.tqdm(total=len(rows), desc="features", unit="clip") as bar,
        # TFDS insists on a folder for data that is fetched, and speaks of it; nothing is.
        tempfile.TemporaryDirectory() as unused,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        Vssflow(root, rows, encoders, spec, posterior, origin, pool, bar).download_and_prepare(
            download_dir=unused, download_config=config
        )


def without_latents(samples: np.ndarray) -> np.ndarray:
    """The `posterior` of a dataset that keeps none: no frames."""
    return np.zeros((0, 2 * LATENT_CHANNELS), np.float32)


def _record(root: Path, encoders: Encoders, spec: ClipSpec, row: Row) -> dict[str, Any]:
    """The values of a record, but for the speaker."""
    frames, fps = media.read_video(root / row["video"])
    if abs(fps - spec.video_rate) > _FPS_TOLERANCE:
        raise UserError(f"{root / row['video']}: {fps} frames/s; convert it to {spec.video_rate}")
    frames = fit_length(frames, spec.video_frames)
    audio = media.read_audio(root / row["video"], spec.sampling_rate)
    audio = fit_length(audio, round(row["duration_sec"] * spec.sampling_rate))
    spoken = bool(row["transcript"])
    lips = (
        encoders.lips(frames, tuple(row["mouth_box"]))
        if row["mouth_box"]
        else np.zeros((0, encoders.lips.width))
    )
    symbols = phonemes(row["transcript"]) if spoken else []
    return {
        "schema_version": dataset.SCHEMA_VERSION,
        "clip_id": row["clip_id"],
        "task": row["task"],
        "transcript": row["transcript"],
        "voice": row["voice"],
        "video": row["video"],
        "duration_sec": row["duration_sec"],
        "event_times_sec": np.array(row["event_times_sec"], np.float32),
        "audio": np.round(np.clip(audio, -1, 1) * _INT16_MAX).astype(np.int16),
        "phonemes": phoneme_ids(symbols),
        "phoneme_frames": phoneme_frames(row, spec),
        "clip": encoders.clip(frames, spec).astype(np.float16),
        "synch": encoders.synch(frames, spec).astype(np.float16),
        "lips": lips.astype(np.float16),
    }


def phoneme_frames(row: Row, spec: ClipSpec) -> np.ndarray:
    """Latent frames that each phoneme of a row's transcript lasts, by the speech engine's times.

    A frame belongs to the phoneme that is heard in its middle; the blanks at both ends last as
    long as the silence there. Where the engine has as many phonemes for a word as the dictionary,
    theirs are the same times; elsewhere the word's time is shared out in proportion.

    Returns:
      int32 [p], their sum `spec.phoneme_frames`; empty where the row has no times.
    """
    words = row["phoneme_starts_sec"]
    if not words:
        return np.zeros(0, np.int32)
    starts_sec = [0.0]
    ends_sec = [*(word[0] for word in words[1:]), row["speech_end_sec"]]
    for text, times_sec, end_sec in zip(row["transcript"].split(), words, ends_sec, strict=True):
        count = sum(symbol != BLANK for symbol in phonemes(text))
        positions = np.arange(count) / count
        bounds = np.arange(len(times_sec) + 1) / len(times_sec)
        starts_sec += list(np.interp(positions, bounds, [*times_sec, end_sec]))
    starts_sec.append(row["speech_end_sec"])
    total = spec.phoneme_frames(row["duration_sec"])
    first_frames = np.minimum(np.rint(np.array(starts_sec) * spec.latent_rate), total)
    return np.diff(first_frames, append=total).astype(np.int32)
