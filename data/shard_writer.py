"""One shard of a dataset: what it is made of, and writing it."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from vssflow_jax.clip import ClipSpec
from vssflow_jax.input_pipeline import dataset, records
from vssflow_jax.input_pipeline.records import Values
from vssflow_jax.utils.errors import MissingPackage, Rejected, UserError
from vssflow_jax.utils.files import as_path, whole, write_atomically

Row = Mapping[str, Any]  # has clip_id, split and task
COMPRESSIONS = {"none": "uncompressed", "zstd": "zstd:3"}
UNFINISHED = "unfinished"  # a folder beside the shards while a build goes on
REJECTED = "rejected.tsv"
COMPLETE = "dataset_info.json"


def named_file(root: Path, text: str) -> Path:
    """The file that a row names, by itself or below a folder.

    Raises:
      Rejected: a URL that is not understood.
    """
    try:
        return as_path(root, text)
    except MissingPackage:
        raise  # It is not the row's fault, and can be mended.
    except UserError as error:
        raise Rejected(f"bad path: {error}") from error


class Source(Protocol):
    """Where records come from. It travels to the workers, so it holds no data."""

    def record(self, row: Row) -> Values:
        """All values of `vssflow_jax.input_pipeline.records` for one row, but for the schema
        version.

        Raises:
          Rejected: the row is bad.
        """
        ...


class NetworkSource(Source, Protocol):
    """A source whose records are made in two halves, the second one by networks.

    Its `record` does both, of one row.
    """

    def prepare(self, row: Row) -> Any:
        """What a process without an accelerator can make of a row. It travels to `finish`.

        Raises:
          Rejected: the row is bad.
        """
        ...

    def finish(self, prepared: Sequence[Any]) -> list[Values]:
        """The records of several rows, in order, with the networks on all local devices."""
        ...


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a dataset is made of.

    Attributes:
      rows: what to make records of, in the order of the dataset.
      source: source of the records.
      spec: geometry of the clips.
      widths: channels of each stream that the records have room for.
      origin: what the rows were made from, and all settings that change a record.
      rejected: names and reasons of rows that were bad before anything was read.
      networks: whether the source is a `NetworkSource`.
    """

    rows: Sequence[Row]
    source: Source
    spec: ClipSpec
    widths: Mapping[str, int]
    origin: Mapping[str, Any]
    rejected: Sequence[tuple[str, str]] = ()
    networks: bool = False

    @property
    def metadata(self) -> dict[str, Any]:
        """What is kept of it beside the shards."""
        return {
            "schema_version": records.SCHEMA_VERSION,
            "clip": _on_disk(dataclasses.asdict(self.spec)),
            "widths": _on_disk(self.widths),
            "origin": dict(self.origin),
        }


def _on_disk(values: Mapping[str, Any]) -> dict[str, Any]:
    return {records.on_disk(name): value for name, value in values.items()}


@dataclasses.dataclass(frozen=True)
class Job:
    """One shard of one split.

    Attributes:
      path: path of the shard.
      rows: rows of the shard, in order.
      source: source of their records.
      streams: streams that the records have room for.
      compression: a key of `COMPRESSIONS`.
    """

    path: Path
    rows: Sequence[Row]
    source: Source
    streams: Sequence[str]
    compression: str

    @property
    def report_path(self) -> Path:
        return self.path.parent / UNFINISHED / f"{self.path.name}.json"


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of the rows of a shard.

    Attributes:
      shard: name of its file.
      num_bytes: size of them in bytes.
      rejected: clip ids and reasons of the other rows.
      absent: how many of the records are without a stream, by its name.
      durations_sec: durations of the records, in order.
      sha256: of the file, in hexadecimal digits.
      corpora: corpora of the records, in order (`vssflow_jax.input_pipeline.dataset.corpus_of`).
    """

    shard: str
    num_bytes: int
    rejected: Sequence[tuple[str, str]]
    absent: Mapping[str, int]
    durations_sec: Sequence[float]
    sha256: str
    corpora: Sequence[str]

    @property
    def clips(self) -> int:
        """Records written."""
        return len(self.durations_sec)


Made = Values | Rejected
"""What became of a row."""


def is_written(job: Job) -> bool:
    """Whether a shard and its report are there."""
    return job.path.exists() and job.report_path.exists()


def made(source: Source, row: Row) -> Made:
    """The record of a row, or why there is none."""
    try:
        return source.record(row)
    except Rejected as reason:
        return reason


def write_shard(job: Job, records_of_rows: Iterable[Made] | None = None) -> Report:
    """Write a shard and its report, unless both are there.

    Args:
      job: what to write.
      records_of_rows: what became of each row; made here, if it is not given.
    """
    if is_written(job):
        return read_report(job)
    if records_of_rows is None:
        records_of_rows = (made(job.source, row) for row in job.rows)
    # A name of its own: a runner may start a job anew while its first try still writes.
    with whole(job.path, job.report_path.parent) as partial:
        report = _write(job, partial, records_of_rows)
    write_atomically(job.report_path, json.dumps(dataclasses.asdict(report)))
    return report


def _write(job: Job, partial: Path, records_of_rows: Iterable[Made]) -> Report:
    """Write the records of a shard into a file of this machine."""
    num_bytes, rejected, durations_sec, corpora = 0, [], [], []
    absent = dict.fromkeys(job.streams, 0)
    writer = ArrayRecordWriter(str(partial), f"group_size:1,{COMPRESSIONS[job.compression]}")
    for row, values in zip(job.rows, records_of_rows, strict=True):
        reason = values if isinstance(values, Rejected) else _not_finite(values, job.streams)
        if isinstance(values, Rejected) or reason:
            rejected.append((row["clip_id"], str(reason)))
            continue
        values = {**values, "schema_version": records.SCHEMA_VERSION}
        record = records.encode(values, job.streams)
        writer.write(record)
        num_bytes += len(record)
        durations_sec.append(float(values[records.DURATION]))
        corpora.append(dataset.corpus_of(values["clip_id"]))
        for name in job.streams:
            absent[name] += not len(values.get(name, ()))
    writer.close()
    with partial.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Report(job.path.name, num_bytes, rejected, absent, durations_sec, sha256, corpora)


def _not_finite(values: Values, streams: Sequence[str]) -> str:
    """What of a record is not finite, if anything is."""
    for name, dtype in records.dtypes(streams).items():
        if dtype.kind == "f" and not np.isfinite(np.asarray(values.get(name, ()), dtype)).all():
            return f"not finite: {name} holds NaN or infinity"
    return ""


def read_report(job: Job) -> Report:
    """The report of a shard that has been written."""
    return Report(**json.loads(job.report_path.read_text()))
