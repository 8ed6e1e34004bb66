"""Datasets on disk: TFDS metadata over ArrayRecord shards; what a record holds and how it is read.

A dataset folder holds `vssflow/<schema version>/`, written by `data.build`. There is a split for
each task of each part, `train_v2s` or `test_joint`, so that tasks can be mixed without reading
anything. `docs/data.md` documents the fields.
"""

import bisect
import dataclasses
import errno
import functools
import itertools
import json
import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError

from vssflow_jax.clip import LATENT_CHANNELS, ClipSpec
from vssflow_jax.input_pipeline import records
from vssflow_jax.input_pipeline.durations import Durations
from vssflow_jax.input_pipeline.example import Clip, ClipFeatures
from vssflow_jax.input_pipeline.limits import allow_open_files
from vssflow_jax.input_pipeline.records import SCHEMA_VERSION
from vssflow_jax.input_pipeline.shards import CacheOptions, open_reader, open_records, read_sha256
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, bucket_path

NAME = "vssflow"
NO_LATENTS = "none"
DURATIONS_SEC = "durations_sec.json"  # of the clips of each split, beside the shards
CORPORA = "corpora.json"  # those that they are from
LATENT_STATS = "latent_stats.json"  # of the training sounds
_STATS = {"mean": LATENT_CHANNELS, "scale": LATENT_CHANNELS}
REBUILD = "rebuild it with python -m data.build"
_INFINITY16 = np.float16(np.inf)
_REQUESTS = 16  # to a bucket at a time


class Dataset:
    """An opened dataset, each of its shards checked to be there and whole.

    Args:
      path: the dataset folder.
      spec: the geometry that clips are read with.
      durations, durations_path: kind and file of the phonemes' `Durations`.
      widths: channels of each stream that a network takes; clips have these, absent where the
        dataset was built without. None for the streams of the dataset that are known here.
      cache_options: where shards are copied to that cannot be read where they are.

    Raises:
      UserError: no dataset there, another schema version, geometry or width, a missing or damaged
        shard, or a bad file of durations.
    """

    def __init__(
        self,
        path: str | Path,
        spec: ClipSpec,
        durations: str = "uniform",
        durations_path: str = "",
        widths: Mapping[str, int] | None = None,
        cache_options: CacheOptions | None = None,
    ):
        self.path = as_path(path)
        self.spec = spec
        self.cache_options = cache_options or CacheOptions()
        self.durations = Durations.read(durations, durations_path)
        self._sources: dict[str, ClipSource] = {}  # once each, for they hold files open
        self._directory, self._info, self._metadata = open_metadata(self.path)
        made_for = self._metadata["clip"]
        for name, value in dataclasses.asdict(spec).items():
            if made_for.get(name) != value:
                raise UserError(
                    f"dataset {path}: made for clip.{name} = {made_for.get(name)}, the config says "
                    f"{value}; change the config or name another --config.data.path"
                )
        expected = {
            as_path(str(shard)): count
            for split in self._info.splits.values()
            for shard, count in zip(split.filepaths, split.shard_lengths, strict=True)
        }
        allow_open_files(len(expected))
        check_shards(self._directory, expected, self.cache_options)
        stored = {name: x for name, x in self._metadata["widths"].items() if name in STREAMS}
        self.widths = dict(stored if widths is None else widths)
        """Channels of each stream of the clips."""
        self.lacking = [name for name in self.widths if name not in stored]
        """Streams that no clip has, since the dataset was built without."""
        for name, width in self.widths.items():
            if stored.get(name, width) != width:
                raise UserError(
                    f"dataset {path}: {name} has {stored[name]} channels there, {width} in the "
                    "config; change model.widths or name another --config.data.path"
                )

    @functools.cached_property
    def sha256(self) -> dict[str, str]:
        """The digest that each shard was made with, by its name, as far as it is known."""
        return read_sha256(self._directory)

    @property
    def latent_stats(self) -> dict[str, list[float]] | None:
        """See `latent_stats`."""
        return latent_stats(self.path)

    def check_part(self, part: str) -> None:
        """Checks that there are clips of any task in `part`.

        Raises:
          UserError: `part` has no clips.
        """
        if not any(self.count(part, task) for task in TASKS):
            raise UserError(
                f"dataset {self.path}: no {part} split; evaluation needs one: add such clips, or "
                "set --config.eval.after_training=False"
            )

    def check_latents(self, digest: str) -> None:
        """Checks that the latents kept here are those of the codec whose weights have this digest.

        Raises:
          UserError: there are none, or they are of another codec.
        """
        found = self._metadata.get("origin", {}).get("latents", NO_LATENTS)
        if found != digest:
            has = "no latents" if found == NO_LATENTS else "latents of another autoencoder"
            raise UserError(
                f"dataset {self.path}: it holds {has}; build it with --vae=DIR of the one in "
                "codec.path, or set --config.codec.latents=online"
            )

    @property
    def counts(self) -> dict[str, int]:
        """Clips of each split."""
        splits = self._info.splits
        return {name: splits[name].num_examples for name in sorted(splits)}

    def check_counts(self, earlier: Mapping[str, int]) -> None:
        """Checks that this is the dataset that a run was trained on so far.

        Raises:
          UserError: it has other splits or numbers of clips.
        """
        if self.counts != earlier:
            raise UserError(
                f"dataset {self.path}: it has {self.counts}, the workdir's run was trained on "
                f"{earlier}; name that dataset by --config.data.path or another --workdir"
            )

    def count(self, part: str, task: str) -> int:
        """Clips of `task` in `part` ("train" or "test"); 0 where there is no such split."""
        split = self._info.splits.get(f"{part}_{task}")
        return split.num_examples if split else 0

    def durations_sec(self, part: str, task: str) -> np.ndarray:
        """How long each clip of a split lasts [clips], without reading any.

        Raises:
          UserError: the dataset does not say so.
        """
        return self._of_clips(DURATIONS_SEC, part, task)

    def corpora(self, part: str, task: str) -> np.ndarray:
        """From which corpus each clip of a split is (`corpus_of`) [clips], without reading any.

        Raises:
          UserError: the dataset does not say so.
        """
        return self._of_clips(CORPORA, part, task)

    def _of_clips(self, name: str, part: str, task: str) -> np.ndarray:
        path = self._directory / name
        try:
            values = np.array(json.loads(path.read_bytes())[f"{part}_{task}"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path} is missing or damaged; restore it or {REBUILD}") from error
        if len(values) != self.count(part, task):
            raise UserError(f"{path} is of other clips; restore it or {REBUILD}")
        return values

    def clips(self, part: str, task: str) -> "ClipSource":
        """The clips of one task of one part, by index.

        Raises:
          UserError: the dataset has none.
        """
        if not self.count(part, task):
            splits = ", ".join(sorted(self._info.splits))
            raise UserError(
                f"dataset {self.path}: no {part} split for {task} (it has {splits}); "
                "add such clips or leave the task out of the config"
            )
        name = f"{part}_{task}"
        if name not in self._sources:
            self._sources[name] = ClipSource(self._info.splits[name], self)
        return self._sources[name]


class BadRecord(UserError):
    """A record that is damaged, of another schema version, or holds numbers that are none."""


class ClipSource:
    """Random access to the decoded clips of one split."""

    def __init__(self, split: tfds.core.SplitInfo, dataset: Dataset):
        paths = [as_path(str(path)) for path in split.filepaths]
        self._records = open_records(
            paths, split.shard_lengths, dataset.cache_options, dataset.sha256
        )
        self._split = split.name
        self._firsts = [0, *itertools.accumulate(split.shard_lengths)]  # record of each shard
        self._dataset = dataset
        lacking = dataset.lacking
        self._widths = {name: x for name, x in dataset.widths.items() if name not in lacking}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Clip:
        """The clip.

        Raises:
          BadRecord: its record cannot be used; says which shard it is in and which one there.
          UserError: nothing is known of how long its phonemes last.
        """
        try:
            record = self._records[index]
        except (RuntimeError, IndexError) as error:
            if os.strerror(errno.EMFILE) in str(error):
                raise UserError(
                    f"{self._where(index)}: {os.strerror(errno.EMFILE).lower()}; raise `ulimit -n`"
                ) from error
            raise BadRecord(
                f"{self._where(index)}: damaged; restore the shard or {REBUILD}"
            ) from error
        try:
            values = records.decode(record, self._widths)
        except (KeyError, ValueError) as error:
            raise BadRecord(
                f"{self._where(index)}: not of schema {SCHEMA_VERSION}; {REBUILD}"
            ) from error
        return to_clip(values, self._dataset, self._where(index))

    def _where(self, index: int) -> str:
        shard = bisect.bisect(self._firsts, index) - 1
        return (
            f"dataset {self._dataset.path}, shard {shard} of split {self._split}, "
            f"record {index - self._firsts[shard]}"
        )


def to_clip(record: records.Values, dataset: Dataset, where: str) -> Clip:
    """A clip from the values of a record.

    Raises:
      BadRecord: another schema version, or a value that is not finite; `where` starts the line.
      UserError: no durations for the clip.
    """
    version, clip_id = record["schema_version"], record["clip_id"]
    if version != SCHEMA_VERSION:
        raise BadRecord(f"{where}: schema {version}, this code reads {SCHEMA_VERSION}; {REBUILD}")
    streams = {
        name: record[name] if len(record.get(name, ())) else STREAMS[name].absent(width)
        for name, width in dataset.widths.items()
    }
    for name, value in {**streams, "posterior": record["posterior"]}.items():
        if not all_finite(value):
            raise BadRecord(f"{where} ({clip_id}): {name} holds NaN or infinity; {REBUILD}")
    spec, durations = dataset.spec, dataset.durations
    duration_sec = record["duration_sec"]
    if not math.isfinite(duration_sec):
        raise BadRecord(f"{where} ({clip_id}): it lasts {duration_sec} s; {REBUILD}")
    ids, aligned = record["phonemes"], record["phoneme_frames"]
    phonemes = durations.spread(ids, aligned, spec.phoneme_frames(duration_sec), clip_id, where)
    return Clip(
        clip_id=clip_id,
        task=record["task"],
        transcript=record["transcript"],
        voice=record["voice"],
        event_times_sec=record["event_times_sec"],
        video=record["video"],
        caption=record["caption"],
        phoneme_ids=ids,
        phoneme_frames=aligned,
        posterior=record["posterior"],
        features=ClipFeatures(streams, phonemes, record["audio"], duration_sec),
    )


def all_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite.

    Of float16 the bits are looked at, which is many times faster: those of infinity and NaN are the
    largest of each sign.
    """
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    if not values.size:
        return True
    # Of signed numbers the largest is positive, of unsigned ones it is negative if any is.
    return bool(
        values.view(np.int16).max() < _INFINITY16.view(np.int16)
        and values.view(np.uint16).max() < (-_INFINITY16).view(np.uint16)
    )


def check_shards(
    directory: Path, expected: Mapping[Path, int], cache_options: CacheOptions
) -> None:
    """Checks that all shards are there and whole; those that are copied are checked as they are.

    Args:
      directory: where they lie.
      expected: number of records of each.
      cache_options: says which are copied.

    Raises:
      UserError: see `check_shard`.
    """
    if not bucket_path(directory):
        for path, count in expected.items():
            check_shard(path, count)
        return
    there = set(directory.iterdir())
    for path in expected:
        if path not in there:
            raise _missing_shard(path)
    native = {path: x for path, x in expected.items() if not cache_options.used_for(path)}
    with ThreadPoolExecutor(_REQUESTS) as pool:
        list(pool.map(check_shard, native.keys(), native.values()))


def _missing_shard(path: Path) -> UserError:
    return UserError(f"dataset shard {path} is missing; restore it or {REBUILD}")


def check_shard(path: Path, expected: int) -> None:
    """Checks that a shard is there, ends as it should, and has `expected` records.

    Raises:
      UserError: the shard is missing, cut short or has another number of records.
    """
    if not path.exists():
        raise _missing_shard(path)
    try:
        reader = open_reader(path)
        found = reader.num_records() if reader.ok() else 0
        reader.close()
    except RuntimeError:  # How the reader says that the file does not end as it should.
        found = 0
    if found != expected:
        raise UserError(
            f"dataset shard {path} is damaged: {found} of {expected} records; "
            f"restore it or {REBUILD}"
        )


def corpus_of(clip_id: str) -> str:
    """The corpus of a clip, by which its name begins: "LRS2" of "LRS2-5535-00001"."""
    return clip_id.partition("-")[0]


def exists(path: str | Path) -> bool:
    """Whether a dataset of any schema version lies in the folder."""
    return any(as_path(path, NAME).glob("*/dataset_info.json"))


def open_metadata(path: Path) -> tuple[Path, tfds.core.DatasetInfo, dict[str, Any]]:
    """Where the shards of a dataset lie, what TFDS knows of it, and our own metadata.

    Raises:
      UserError: none is there, it has another schema version, or its metadata is damaged.
    """
    directory = version_dir(path)
    try:
        info = tfds.builder_from_directory(str(directory)).info
        metadata = dict(info.metadata or {})
        found = metadata["schema_version"]
        if found == SCHEMA_VERSION:
            return directory, info, records.metadata_in_code(metadata)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ParseError) as error:
        raise damaged_metadata(path, error) from error
    raise UserError(
        f"dataset {path}: schema version {found}, this code reads {SCHEMA_VERSION}; {REBUILD}"
    )


def latent_stats(path: str | Path) -> dict[str, list[float]] | None:
    """Statistics of the training sounds of a dataset (`vssflow_jax.audio.codec.LatentStats`).

    Returns:
      them; None where there is no dataset, or one that was built before they were kept.

    Raises:
      UserError: their file is damaged.
    """
    file = as_path(path, NAME, SCHEMA_VERSION, LATENT_STATS)
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_bytes())
        if {name: len(values) for name, values in found.items()} != _STATS:
            raise ValueError("other names or numbers")
        return found
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({error}); delete it and {REBUILD}") from error


def damaged_metadata(path: Path, error: Exception) -> UserError:
    """For a dataset whose metadata cannot be read."""
    reason = " ".join(str(error).split())
    return UserError(f"dataset {path}: its metadata is damaged ({reason}); restore it or {REBUILD}")


def version_dir(path: Path) -> Path:
    """Where the shards and the metadata of the dataset in the folder lie.

    Raises:
      UserError: none is there, or one of another schema version.
    """
    versions = sorted(p.parent.name for p in (path / NAME).glob("*/dataset_info.json"))
    if not versions:
        raise UserError(f"dataset {path}: none there; build one with python -m data.build")
    if SCHEMA_VERSION not in versions:
        raise UserError(
            f"dataset {path}: schema version {versions[-1]}, this code reads {SCHEMA_VERSION}; "
            + REBUILD
        )
    return path / NAME / SCHEMA_VERSION
