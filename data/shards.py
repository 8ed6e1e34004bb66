"""Rows to ArrayRecord shards that TFDS reads, shard by shard, so that a build can be stopped
anywhere and goes on.

A shard is made by one function of one job, `write_shard`, wherever it runs: in a process here, or
on a worker of a Beam runner. Its file appears whole or not at all, and a report beside it says what
is in it; a shard that has both is not made again. When all are there, TFDS's metadata is written,
`dataset_info.json` last: a folder that has it holds a whole dataset.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from array_record.python.array_record_module import ArrayRecordWriter

from data import latent_stats
from vssflow_jax.clip import ClipSpec
from vssflow_jax.input_pipeline import dataset, records
from vssflow_jax.input_pipeline.records import Values
from vssflow_jax.utils.errors import Rejected, UserError
from vssflow_jax.utils.processes import pool

Row = Mapping[str, Any]  # has clip_id, split and task

COMPRESSIONS = {"none": "uncompressed", "zstd": "zstd:3"}
UNFINISHED = "unfinished"  # a folder beside the shards while a build goes on
REJECTED = "rejected.tsv"
COMPLETE = "dataset_info.json"
SHA256SUMS = "SHA256SUMS"  # of the shards, as `sha256sum --check` reads them
CLIPS_PER_SHARD = 128  # at least,
MOST_SHARDS = 256  # unless there would be more of them: each is an open file in training
DESCRIPTION = "Precomputed video, voice and phoneme features beside the sound."


class Source(Protocol):
    """Where records come from. It travels to the workers, so it holds no data."""

    def record(self, row: Row) -> Values:
        """All values of `vssflow_jax.input_pipeline.records` for one row, but for the schema
        version.

        Raises:
          Rejected: the row is bad.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a dataset is made of.

    Attributes:
      rows: what to make records of, in the order of the dataset.
      source: of the records.
      spec: geometry of the clips.
      widths: of each of `vssflow_jax.input_pipeline.records.STREAMS`.
      origin: what the rows were made from, and all settings that change a record.
      rejected: names and reasons of rows that were bad before anything was read.
    """

    rows: Sequence[Row]
    source: Source
    spec: ClipSpec
    widths: Mapping[str, int]
    origin: Mapping[str, Any]
    rejected: Sequence[tuple[str, str]] = ()

    @property
    def metadata(self) -> dict[str, Any]:
        """What is kept of it beside the shards."""
        return {
            "schema_version": records.SCHEMA_VERSION,
            "clip": dataclasses.asdict(self.spec),
            "widths": dict(self.widths),
            "origin": dict(self.origin),
        }


@dataclasses.dataclass(frozen=True)
class Job:
    """One shard of one split.

    Attributes:
      path: of the shard.
      rows: that it holds, in order.
      source: of their records.
      compression: a key of `COMPRESSIONS`.
    """

    path: Path
    rows: Sequence[Row]
    source: Source
    compression: str

    @property
    def report_path(self) -> Path:
        return self.path.parent / UNFINISHED / f"{self.path.name}.json"


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of the rows of a shard.

    Attributes:
      shard: name of its file.
      clips: records written.
      num_bytes: of them.
      rejected: clip ids and reasons of the other rows.
      absent: how many of the records are without a stream, by its name.
      durations_sec: of the records, in order.
      sha256: of the file, in hexadecimal digits.
      corpora: of the records, in order (`vssflow_jax.input_pipeline.dataset.corpus_of`); unfinished
        builds of earlier versions have none.
    """

    shard: str
    clips: int
    num_bytes: int
    rejected: Sequence[tuple[str, str]]
    absent: Mapping[str, int]
    durations_sec: Sequence[float]
    sha256: str
    corpora: Sequence[str] = ()


Run = Callable[[Sequence[Job]], Iterable[Report]]  # as they are done, in any order


def write_shard(job: Job) -> Report:
    """Write a shard and its report, unless both are there."""
    if job.path.exists() and job.report_path.exists():
        return read_report(job)
    num_bytes, rejected, durations_sec, corpora = 0, [], [], []
    absent = dict.fromkeys(records.STREAMS, 0)
    # A name of its own: a runner may start a job anew while its first try still writes.
    partial = job.path.parent / UNFINISHED / f"{job.path.name}.{uuid.uuid4().hex}"
    writer = ArrayRecordWriter(str(partial), f"group_size:1,{COMPRESSIONS[job.compression]}")
    for row in job.rows:
        try:
            values = job.source.record(row)
            _check_finite(values)
        except Rejected as reason:
            rejected.append((row["clip_id"], str(reason)))
            continue
        record = records.encode({**values, "schema_version": records.SCHEMA_VERSION})
        writer.write(record)
        num_bytes += len(record)
        durations_sec.append(float(values[records.DURATION]))
        corpora.append(dataset.corpus_of(values["clip_id"]))
        for name in records.STREAMS:
            absent[name] += not len(values.get(name, ()))
    writer.close()
    clips = len(durations_sec)
    with partial.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    report = Report(
        job.path.name, clips, num_bytes, rejected, absent, durations_sec, sha256, corpora
    )
    partial.replace(job.path)
    text = json.dumps(dataclasses.asdict(report))
    _write_whole(job.report_path, text, job.report_path.parent)
    return report


def _check_finite(values: Values) -> None:
    for name, dtype in records.DTYPES.items():
        if dtype.kind == "f" and not np.isfinite(np.asarray(values.get(name, ()), dtype)).all():
            raise Rejected(f"not finite: {name} holds NaN or infinity")


def read_report(job: Job) -> Report:
    """The report of a shard that has been written."""
    return Report(**json.loads(job.report_path.read_text()))


def run_here(jobs: Sequence[Job], workers: int) -> Iterator[Report]:
    """Write shards by processes of this machine; by this one, if that is all."""
    if workers == 1:
        yield from map(write_shard, jobs)
        return
    with pool(workers) as processes:
        futures = [processes.submit(write_shard, job) for job in jobs]
        try:
            for done in concurrent.futures.as_completed(futures):
                yield done.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                "a worker was killed, perhaps for want of memory; the same command goes on, with "
                "fewer --workers"
            ) from error
        finally:
            processes.shutdown(cancel_futures=True)


def scattered(rows: Iterable[Row]) -> list[Row]:
    """The rows in an order that depends on their names alone, and mixes them."""
    return sorted(rows, key=lambda row: (zlib.crc32(row["clip_id"].encode()), row["clip_id"]))


def plan(
    directory: Path, contents: Contents, clips_per_shard: int, compression: str
) -> dict[str, list[Job]]:
    """The shards of each split."""
    clips_per_shard = clips_per_shard or max(CLIPS_PER_SHARD, len(contents.rows) // MOST_SHARDS)
    splits: dict[str, list[Row]] = {}
    for row in contents.rows:
        splits.setdefault(f"{row['split']}_{row['task']}", []).append(row)
    jobs = {}
    for name in sorted(splits):
        count = -(-len(splits[name]) // clips_per_shard)
        parts = np.array_split(np.arange(len(splits[name])), count)
        template = _template(directory, name)
        jobs[name] = [
            Job(
                Path(template.sharded_filepath(shard_index=index, num_shards=count)),
                [splits[name][row] for row in part],
                contents.source,
                compression,
            )
            for index, part in enumerate(parts)
        ]
    return jobs


def build(
    root: Path,
    contents: Contents,
    run: Run,
    *,
    max_rejected: float = 0.0,
    clips_per_shard: int = 0,
    compression: str = "none",
) -> str:
    """Write a dataset into `root`, or go on with it.

    Args:
      root: gets `vssflow/<schema version>/`.
      contents: what to write.
      run: calls `write_shard` with each job.
      max_rejected: share of bad rows; with more of them the build stops.
      clips_per_shard: rows of a shard, at most; 0 for as many as suit their number.
      compression: a key of `COMPRESSIONS`.

    Returns:
      what became of the rows, and which streams are absent from how many: a line or two.

    Raises:
      UserError: too many rows are bad, or the folder holds something else.
    """
    directory = root / dataset.NAME / records.SCHEMA_VERSION
    if (directory / COMPLETE).exists():
        _check_same(directory, contents)
        latent_stats.add(root)
        shutil.rmtree(directory / UNFINISHED, ignore_errors=True)
        return f"{directory} is there already, whole; delete it to make it again"
    if not contents.rows and not contents.rejected:
        raise UserError("there are no rows to make a dataset of")
    jobs = plan(directory, contents, clips_per_shard, compression)
    (directory / UNFINISHED).mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        _claim(directory, jobs, contents)
        return _build(directory, jobs, contents, run, max_rejected)


def _build(
    directory: Path,
    jobs: Mapping[str, list[Job]],
    contents: Contents,
    run: Run,
    max_rejected: float,
) -> str:
    bad = list(contents.rejected)
    total = len(contents.rows) + len(bad)
    reports = {}
    _check_rejected(directory, bad, total, max_rejected)
    with tqdm.tqdm(total=len(contents.rows), desc="records", unit="clip") as bar:
        for report in run([job for split in jobs.values() for job in split]):
            reports[report.shard] = report
            bad += report.rejected
            bar.update(report.clips + len(report.rejected))
            _check_rejected(directory, bad, total, max_rejected)
    _write_rejected(directory, bad)
    _write_metadata(directory, jobs, reports, contents)
    shutil.rmtree(directory / UNFINISHED)
    kinds = collections.Counter(reason.partition(":")[0] for _, reason in bad)
    by_kind = f" ({', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))})" if bad else ""
    written = f"{total} clips = {total - len(bad)} written + {len(bad)} rejected{by_kind}"
    absent = {
        name: sum(report.absent[name] for report in reports.values()) for name in records.STREAMS
    }
    without = ", ".join(f"{name} in {count}" for name, count in absent.items() if count)
    return f"{written}\nabsent: {without}" if without else written


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """While no other process builds there.

    Raises:
      UserError: one does.
    """
    with (directory / UNFINISHED / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{directory}: another process builds it; wait, or stop it") from error
        yield


def _check_same(directory: Path, contents: Contents) -> None:
    """See that the whole dataset in the folder is made of `contents`."""
    try:
        found = json.loads((directory / "metadata.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{directory}: its metadata is damaged; delete it, build anew") from error
    if found != json.loads(json.dumps(contents.metadata)):
        raise UserError(
            f"{directory} holds a dataset of other rows or settings; choose another --out or "
            "delete it"
        )


def _claim(directory: Path, jobs: Mapping[str, list[Job]], contents: Contents) -> None:
    """See that an unfinished build in the folder is of the same rows."""
    shards = {job.path.name: _digest(job) for split in jobs.values() for job in split}
    wanted = {"metadata": contents.metadata, "shards": shards, "source": repr(contents.source)}
    text = json.dumps(wanted, sort_keys=True)
    claim = directory / UNFINISHED / "build.json"
    if claim.exists() and claim.read_text() != text:
        raise UserError(
            f"{directory} holds an unfinished build of other rows or settings; choose another "
            "--out or delete it"
        )
    _write_whole(claim, text, claim.parent)


def _digest(job: Job) -> int:
    return zlib.crc32(json.dumps([*map(dict, job.rows), job.compression], sort_keys=True).encode())


def _check_rejected(
    directory: Path, bad: Sequence[tuple[str, str]], total: int, max_rejected: float
) -> None:
    """See that there are not too many bad rows, and any good ones."""
    if len(bad) < total and len(bad) <= max_rejected * total:
        return
    _write_rejected(directory, bad)
    raise UserError(
        f"{len(bad)} of {total} rows are bad so far, more than --max_rejected={max_rejected} of "
        f"them: see {directory / REJECTED}; allow more, or mend them, delete {directory} and build "
        "anew"
    )


def _write_rejected(directory: Path, bad: Sequence[tuple[str, str]]) -> None:
    lines = sorted(f"{name}\t{' '.join(reason.split())}\n" for name, reason in bad)
    _write_whole(directory / REJECTED, "".join(lines), directory / UNFINISHED)


def _write_metadata(
    directory: Path,
    jobs: Mapping[str, list[Job]],
    reports: Mapping[str, Report],
    contents: Contents,
) -> None:
    splits, durations_sec, corpora = [], {}, {}
    for name, split in jobs.items():
        of_split = [reports[job.path.name] for job in split]
        if not any(report.clips for report in of_split):
            for job in split:
                job.path.unlink()
            continue
        durations_sec[name] = [sec for report in of_split for sec in report.durations_sec]
        corpora[name] = [corpus for report in of_split for corpus in report.corpora]
        splits.append(
            tfds.core.SplitInfo(
                name=name,
                shard_lengths=[report.clips for report in of_split],
                num_bytes=sum(report.num_bytes for report in of_split),
                filename_template=_template(directory, name),
            )
        )
    info = tfds.core.DatasetInfo(
        builder=tfds.core.dataset_info.DatasetIdentity(
            name=dataset.NAME,
            version=tfds.core.Version(records.SCHEMA_VERSION),
            data_dir=str(directory),
            module_name="",
        ),
        features=records.features(),
        description=DESCRIPTION,
        metadata=tfds.core.MetadataDict(contents.metadata),
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(tfds.core.splits.SplitDict(splits))
    staging = directory / UNFINISHED / "metadata"
    staging.mkdir(exist_ok=True)
    info.write_to_directory(staging)
    (staging / dataset.DURATIONS_SEC).write_text(json.dumps(durations_sec))
    (staging / dataset.CORPORA).write_text(json.dumps(corpora))
    stats = latent_stats.fit(latent_stats.of_splits(splits), contents.widths, contents.spec)
    (staging / dataset.LATENT_STATS).write_text(stats)
    kept = [reports[Path(path).name] for split in splits for path in split.filepaths]
    (staging / SHA256SUMS).write_text("".join(f"{r.sha256}  {r.shard}\n" for r in kept))
    for path in sorted(staging.iterdir(), key=lambda path: path.name == COMPLETE):
        path.replace(directory / path.name)


def _template(directory: Path, split: str | None) -> Any:
    return tfds.core.ShardedFileTemplate(
        data_dir=directory,
        dataset_name=dataset.NAME,
        split=split,
        filetype_suffix="array_record",
    )


def _write_whole(path: Path, text: str, staging: Path) -> None:
    partial = staging / f"{path.name}.{uuid.uuid4().hex}"
    partial.write_text(text)
    partial.replace(path)
