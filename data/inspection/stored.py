"""A dataset as it lies on disk, whole or not: its metadata, and its records shard by shard.

`vssflow_jax.input_pipeline.dataset.Dataset` refuses what is damaged; here damage is among the
results.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from array_record.python.array_record_module import ArrayRecordReader

from data.shard_writer import REJECTED
from vssflow_jax.clip import ClipSpec
from vssflow_jax.input_pipeline import records
from vssflow_jax.input_pipeline.dataset import damaged_metadata, open_metadata
from vssflow_jax.input_pipeline.records import SCHEMA_VERSION, Values
from vssflow_jax.input_pipeline.shards import open_reader, read_sha256
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

# The reader's messages go on with hashes and positions.
_END_OF_REASON = re.compile(r" \(|;|, chunk")


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of records, as the metadata has it.

    Attributes:
      path: where it should be.
      split: split that the shard is a part of, such as `train_v2s`.
      num_records: number of records that it should hold.
    """

    path: Path
    split: str
    num_records: int

    @property
    def part(self) -> str:
        return self.split.partition("_")[0]

    @property
    def task(self) -> str:
        return self.split.partition("_")[2]


@dataclasses.dataclass(frozen=True)
class Damage:
    """What is wrong with the record of this index, or with the whole shard (None)."""

    shard: str
    index: int | None
    reason: str

    def __str__(self) -> str:
        record = "" if self.index is None else f", record {self.index}"
        return f"{self.shard}{record}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Found:
    """A record that can be read, of this index in its shard."""

    shard: Shard
    index: int
    values: Values


@dataclasses.dataclass(frozen=True)
class Stored:
    """The metadata of a dataset.

    Attributes:
      directory: directory of the shards.
      spec: geometry that the clips were made for.
      widths: channels of each stream of the records.
      origin: what the records were made from.
      shards: in the order of splits and numbers.
    """

    directory: Path
    spec: ClipSpec
    widths: Mapping[str, int]
    origin: Mapping[str, Any]
    shards: Sequence[Shard]

    @classmethod
    def open(cls, path: Path) -> "Stored":
        """The dataset of a folder.

        Raises:
          UserError: none is there, it has another schema version or a stream that is not known
            here, or its metadata is damaged.
        """
        directory, info, metadata = open_metadata(path)
        for name in metadata["widths"].keys() - STREAMS:
            raise UserError(
                f"dataset {path}: it has the stream '{name}', which is not known here; name the "
                "module that adds it by --plugins"
            )
        try:
            splits = [info.splits[name] for name in sorted(info.splits)]
            spec = ClipSpec(**metadata["clip"])
            return cls.of_splits(directory, spec, metadata["widths"], metadata["origin"], splits)
        except (ValueError, TypeError, KeyError) as error:
            raise damaged_metadata(path, error) from error

    @classmethod
    def of_splits(
        cls,
        directory: Path,
        spec: ClipSpec,
        widths: Mapping[str, int],
        origin: Mapping[str, Any],
        splits: Iterable[tfds.core.SplitInfo],
    ) -> "Stored":
        """A dataset of which all this is known."""
        shards = [
            Shard(as_path(str(shard)), split.name, num_records)
            for split in splits
            for shard, num_records in zip(split.filepaths, split.shard_lengths, strict=True)
        ]
        return cls(directory, spec, widths, origin, shards)

    @property
    def num_records(self) -> int:
        return sum(shard.num_records for shard in self.shards)

    def read(self, sample: int = 0, *, quiet: bool = False) -> Iterator[Found | Damage]:
        """Read record by record.

        Args:
          sample: how many records, evenly spread; 0 for all of them.
          quiet: whether to show no progress bar.
        """
        total = self.num_records
        count = min(sample, total) or total
        places = np.arange(count) * total // max(count, 1)
        ends = np.cumsum([shard.num_records for shard in self.shards])
        with tqdm.tqdm(total=count, desc="records", unit="clip", disable=quiet) as bar:
            for shard, end in zip(self.shards, ends, strict=True):
                start = end - shard.num_records
                inside = places[(places >= start) & (places < end)] - start
                for item in _read_shard(shard, inside.tolist(), self.widths):
                    yield item
                    bar.update(item.index is not None)

    def checksums(self) -> Iterator[tuple[Shard, str]]:
        """The SHA-256 of each shard in hexadecimal digits, "" of a missing one."""
        for shard in tqdm.tqdm(self.shards, desc="checksums", unit="shard"):
            if not shard.path.is_file():
                yield shard, ""
                continue
            with shard.path.open("rb") as file:
                yield shard, hashlib.file_digest(file, "sha256").hexdigest()

    def sha256(self) -> dict[str, str]:
        """The SHA-256 that each shard was made with, by its name, as far as it is known."""
        return read_sha256(self.directory)

    def rejected(self) -> list[tuple[str, str]]:
        """Clip ids and reasons of the rows that became no records."""
        path = self.directory / REJECTED
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [(name, reason) for name, _, reason in (line.partition("\t") for line in lines)]


def _read_shard(
    shard: Shard, indices: Sequence[int], widths: Mapping[str, int]
) -> Iterator[Found | Damage]:
    name = shard.path.name
    if not shard.path.exists():
        yield Damage(name, None, f"missing, with {shard.num_records} records")
        return
    reader = open_reader(shard.path)
    if not reader.ok():
        yield Damage(name, None, f"{shard.num_records} records lost, {_why_closed(reader)}")
        return
    num_found = reader.num_records()
    if num_found != shard.num_records:
        yield Damage(name, None, f"{num_found} of {shard.num_records} records")
    for index in indices:
        if index >= num_found:
            break
        try:
            # One by one: of several, the reader gives none where one is damaged.
            values = records.decode(reader.read([index])[0], widths)
        except RuntimeError as error:
            yield Damage(name, index, _reason(error))
        except (KeyError, ValueError) as error:
            yield Damage(name, index, f"not of schema {SCHEMA_VERSION}, {error}")
        else:
            yield Found(shard, index, values)
    reader.close()


def _why_closed(reader: ArrayRecordReader) -> str:
    try:
        reader.close()
    except RuntimeError as error:
        return _reason(error)
    return "the file cannot be opened"


def _reason(error: RuntimeError) -> str:
    return _END_OF_REASON.split(str(error))[0]
