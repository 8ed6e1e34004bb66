"""Datasets on disk: TFDS metadata over ArrayRecord shards; what a record holds and how it is read.

A dataset folder holds `vssflow/<schema version>/`, written by `data.build`. There is a split for
each task of each part, `train_v2s` or `test_joint`, so that tasks can be mixed without reading
anything. `docs/data.md` documents the fields.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from vssflow_jax.clip import ClipSpec, stretch_phonemes
from vssflow_jax.errors import UserError
from vssflow_jax.joint import ClipFeatures

NAME = "vssflow"
SCHEMA_VERSION = "1.0.0"
TASKS = ("v2s", "visualtts", "joint")
STREAMS = ("clip", "synch", "lips", "speaker")

REBUILD = "rebuild it with python -m data.build"
_INT16_SCALE = 32768.0


@dataclasses.dataclass(frozen=True)
class Clip:
    """One decoded record: the features of a clip and what evaluation needs to know of it."""

    clip_id: str
    task: str
    transcript: str
    voice: str
    event_times_sec: np.ndarray
    video: str
    features: ClipFeatures


class Dataset:
    """An opened dataset, each of its shards checked to be there and whole.

    Args:
      path: the dataset folder.
      spec: the geometry that clips are read with.

    Raises:
      UserError: no dataset there, another schema version or geometry, or a missing or damaged
        shard.
    """

    def __init__(self, path: str | Path, spec: ClipSpec):
        self.path = Path(path)
        self.spec = spec
        self._builder = tfds.builder_from_directory(_version_dir(self.path))
        metadata = self._builder.info.metadata or {}
        found = metadata.get("schema_version")
        if found != SCHEMA_VERSION:
            raise UserError(
                f"dataset {path}: schema version {found}, this code reads {SCHEMA_VERSION}; "
                + REBUILD
            )
        made_for = metadata.get("clip", {})
        for name, value in dataclasses.asdict(spec).items():
            if made_for.get(name) != value:
                raise UserError(
                    f"dataset {path}: made for clip.{name} = {made_for.get(name)}, the config says "
                    f"{value}; change the config or name another --config.data.path"
                )
        for split in self._builder.info.splits.values():
            for shard, expected in zip(split.filepaths, split.shard_lengths, strict=True):
                check_shard(Path(shard), expected)

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each stream of features."""
        features = self._builder.info.features
        return {name: features[name].shape[-1] for name in STREAMS}

    def check_widths(self, widths: Mapping[str, int]) -> None:
        """See that the streams are as wide as the model's config says.

        Raises:
          UserError: one is not.
        """
        for name, width in widths.items():
            if self.widths[name] != width:
                raise UserError(
                    f"dataset {self.path}: {name} has {self.widths[name]} channels there, {width} "
                    "in the config; change model.widths or name another --config.data.path"
                )

    def check_part(self, part: str) -> None:
        """See that there are clips of any task in `part`.

        Raises:
          UserError: there are none.
        """
        if not any(self.count(part, task) for task in TASKS):
            raise UserError(
                f"dataset {self.path}: no {part} split; evaluation needs one: add such clips, or "
                "set --config.eval.after_training=False"
            )

    @property
    def counts(self) -> dict[str, int]:
        """Clips of each split."""
        splits = self._builder.info.splits
        return {name: splits[name].num_examples for name in sorted(splits)}

    def check_counts(self, earlier: Mapping[str, int]) -> None:
        """See that this is the dataset that a run was trained on so far.

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
        split = self._builder.info.splits.get(f"{part}_{task}")
        return split.num_examples if split else 0

    def clips(self, part: str, task: str) -> "ClipSource":
        """The clips of one task of one part, by index.

        Raises:
          UserError: the dataset has none.
        """
        if not self.count(part, task):
            splits = ", ".join(sorted(self._builder.info.splits))
            raise UserError(
                f"dataset {self.path}: no {part} split for {task} (it has {splits}); "
                "add such clips or leave the task out of the config"
            )
        return ClipSource(self._builder.as_data_source(f"{part}_{task}"), self)


class ClipSource:
    """Random access to the decoded clips of one split."""

    def __init__(self, records: Any, dataset: Dataset):
        self._records = records
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Clip:
        where = f"dataset {self._dataset.path}, split {self._records.split}, record {index}"
        try:
            record = self._records[index]
        except (KeyError, ValueError) as error:
            raise UserError(f"{where}: not of schema {SCHEMA_VERSION}; {REBUILD}") from error
        except (RuntimeError, IndexError) as error:
            raise UserError(f"{where}: damaged; restore the shards or {REBUILD}") from error
        return decode(record, self._dataset.spec, where)


def decode(record: Mapping[str, Any], spec: ClipSpec, where: str) -> Clip:
    """A clip from the values of a record.

    Raises:
      UserError: another schema version, or a value that is not finite; `where` starts the line.
    """
    version = record["schema_version"].decode()
    if version != SCHEMA_VERSION:
        raise UserError(f"{where}: schema {version}, this code reads {SCHEMA_VERSION}; {REBUILD}")
    clip_id = record["clip_id"].decode()
    streams = {name: record[name].astype(np.float32) for name in STREAMS}
    for name, value in streams.items():
        if not np.isfinite(value).all():
            raise UserError(f"{where} ({clip_id}): {name} holds NaN or infinity; {REBUILD}")
    duration_sec = float(record["duration_sec"])
    ids = record["phonemes"]
    if len(ids):
        ids = stretch_phonemes(ids, spec.phoneme_frames(duration_sec))
    waveform = record["audio"].astype(np.float32) / _INT16_SCALE
    return Clip(
        clip_id=clip_id,
        task=record["task"].decode(),
        transcript=record["transcript"].decode(),
        voice=record["voice"].decode(),
        event_times_sec=record["event_times_sec"],
        video=record["video"].decode(),
        features=ClipFeatures(
            **streams, phonemes=ids, waveform=waveform, duration_sec=duration_sec
        ),
    )


def check_shard(path: Path, expected: int) -> None:
    """See that a shard is there, ends as it should, and has `expected` records.

    Raises:
      UserError: it does not.
    """
    if not path.exists():
        raise UserError(f"dataset shard {path} is missing; restore it or {REBUILD}")
    try:
        reader = ArrayRecordReader(str(path))
        found = reader.num_records() if reader.ok() else 0
        reader.close()
    except RuntimeError:  # How the reader says that the file does not end as it should.
        found = 0
    if found != expected:
        raise UserError(
            f"dataset shard {path} is damaged: {found} of {expected} records; "
            f"restore it or {REBUILD}"
        )


def exists(path: str | Path) -> bool:
    """Whether a dataset of any schema version lies in the folder."""
    return any(Path(path, NAME).glob("*/dataset_info.json"))


def _version_dir(path: Path) -> Path:
    versions = sorted(p.parent.name for p in (path / NAME).glob("*/dataset_info.json"))
    if not versions:
        raise UserError(f"dataset {path}: none there; build one with python -m data.build")
    if SCHEMA_VERSION not in versions:
        raise UserError(
            f"dataset {path}: schema version {versions[-1]}, this code reads {SCHEMA_VERSION}; "
            + REBUILD
        )
    return path / NAME / SCHEMA_VERSION
