"""Rows to ArrayRecord shards that TFDS reads, shard by shard, so that a build can be stopped
anywhere and goes on.

A shard is made by one function of one job, `write_shard`, wherever it runs: in a process here, or
on a worker of a Beam runner. Its file appears whole or not at all, and a report beside it says what
is in it; a shard that has both is not made again. When all are there, TFDS's metadata is written,
`dataset_info.json` last: a folder that has it holds a whole dataset.
"""

import collections
import contextlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from data import latent_stats
from data.inspection.stored import Stored
from data.shard_writer import (
    COMPLETE,
    REJECTED,
    UNFINISHED,
    Contents,
    Job,
    Report,
    Row,
    read_report,
)
from vssflow_jax.input_pipeline import dataset, records
from vssflow_jax.input_pipeline.shards import SHA256SUMS
from vssflow_jax.parallel import distributed
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import added_files, as_path, remove_tree, write_atomically
from vssflow_jax.utils.locks import Locked, lock

Run = Callable[[Sequence[Job]], Iterable[Report]]  # as they are done, in any order

CLIPS_PER_SHARD = 128  # at least,
MOST_SHARDS = 256  # unless there would be more of them: each is an open file in training
DESCRIPTION = "Precomputed video, voice and phoneme features beside the sound."


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
                as_path(str(template.sharded_filepath(shard_index=index, num_shards=count))),
                [splits[name][row] for row in part],
                contents.source,
                list(contents.widths),
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
    shared: bool = False,
) -> str:
    """Write a dataset into `root`, or go on with it.

    Args:
      root: gets `vssflow/<schema version>/`.
      contents: what to write.
      run: calls `write_shard` with each job.
      max_rejected: share of bad rows; with more of them the build stops.
      clips_per_shard: rows of a shard, at most; 0 for as many as suit their number.
      compression: a key of `COMPRESSIONS`.
      shared: whether all processes of a job (`vssflow_jax.parallel.distributed`) are here, each of
        which writes its share of the shards.

    Returns:
      what became of the rows, and which streams are absent from how many: a line or two. Of a job
      it is the main process's.

    Raises:
      UserError: too many rows are bad, or the folder holds something else.
    """
    directory = root / dataset.NAME / records.SCHEMA_VERSION
    if (directory / COMPLETE).exists():
        _check_same(directory, "metadata.json", contents.metadata, "a dataset")
        latent_stats.add(root)
        remove_tree(directory / UNFINISHED)
        return f"{directory} is there already, whole; delete it to make it again"
    if not contents.rows and not contents.rejected:
        raise UserError("there are no rows to make a dataset of")
    jobs = plan(directory, contents, clips_per_shard, compression)
    (directory / UNFINISHED).mkdir(parents=True, exist_ok=True)
    every = [job for split in jobs.values() for job in split]
    main = not shared or distributed.is_main()
    with _alone(directory) if main else contextlib.nullcontext():
        if main:
            _claim(directory, jobs, contents)
        if not shared:
            reports = _written(directory, every, contents, run, max_rejected)
        else:
            distributed.wait_for_all("claimed")
            _written(directory, distributed.own_share(every), contents, run, max_rejected)
            distributed.wait_for_all("shards")
            reports = {job.path.name: read_report(job) for job in every} if main else {}
        return _completed(directory, jobs, contents, reports, max_rejected) if main else ""


def _written(
    directory: Path, jobs: Sequence[Job], contents: Contents, run: Run, max_rejected: float
) -> dict[str, Report]:
    """The reports of shards, by their names, when they are written."""
    bad = list(contents.rejected)
    total = len(contents.rows) + len(bad)
    reports = {}
    _check_rejected(directory, bad, total, max_rejected)
    with tqdm.tqdm(total=sum(len(job.rows) for job in jobs), desc="records", unit="clip") as bar:
        for report in run(jobs):
            reports[report.shard] = report
            bad += report.rejected
            bar.update(report.clips + len(report.rejected))
            _check_rejected(directory, bad, total, max_rejected)
    return reports


def _completed(
    directory: Path,
    jobs: Mapping[str, list[Job]],
    contents: Contents,
    reports: Mapping[str, Report],
    max_rejected: float,
) -> str:
    """What became of all rows, when the metadata is written too."""
    bad = [*contents.rejected, *(pair for report in reports.values() for pair in report.rejected)]
    total = len(contents.rows) + len(contents.rejected)
    _check_rejected(directory, bad, total, max_rejected)
    _write_rejected(directory, bad)
    _write_metadata(directory, jobs, reports, contents)
    remove_tree(directory / UNFINISHED)
    kinds = collections.Counter(reason.partition(":")[0] for _, reason in bad)
    by_kind = f" ({', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))})" if bad else ""
    written = f"{total} clips = {total - len(bad)} written + {len(bad)} rejected{by_kind}"
    absent = {
        name: sum(report.absent[name] for report in reports.values()) for name in contents.widths
    }
    without = ", ".join(f"{name} in {count}" for name, count in absent.items() if count)
    return f"{written}\nabsent: {without}" if without else written


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """While no other process builds there.

    Raises:
      UserError: another process builds there.
    """
    try:
        with lock(directory / UNFINISHED / "lock"):
            yield
    except Locked as error:
        who = f" ({error})" if str(error) else ""
        raise UserError(f"{directory}: another process builds it{who}; wait, or stop it") from error


def _check_same(directory: Path, name: str, wanted: dict[str, Any], what: str) -> None:
    """Checks that the file which says what the records there are made of says what is wanted."""
    try:
        found = json.loads((directory / name).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{directory}: its metadata is damaged; delete it, build anew") from error
    if found != json.loads(json.dumps(wanted)):
        raise UserError(
            f"{directory} holds {what} of other rows or settings; choose another --out or delete it"
        )


def _claim(directory: Path, jobs: Mapping[str, list[Job]], contents: Contents) -> None:
    """Checks that an unfinished build in the folder is of the same rows."""
    shards = {job.path.name: _digest(job) for split in jobs.values() for job in split}
    wanted = {"metadata": contents.metadata, "shards": shards, "source": repr(contents.source)}
    claim = f"{UNFINISHED}/build.json"
    if (directory / claim).exists():
        _check_same(directory, claim, wanted, "an unfinished build")
    write_atomically(directory / claim, json.dumps(wanted))


def _digest(job: Job) -> int:
    return zlib.crc32(json.dumps([*map(dict, job.rows), job.compression], sort_keys=True).encode())


def _check_rejected(
    directory: Path, bad: Sequence[tuple[str, str]], total: int, max_rejected: float
) -> None:
    """Checks that there are not too many bad rows, and any good ones."""
    if len(bad) < total and len(bad) <= max_rejected * total:
        return
    if distributed.is_main():
        _write_rejected(directory, bad)
    raise UserError(
        f"{len(bad)} of {total} rows are bad so far, more than --max_rejected={max_rejected} of "
        f"them: see {directory / REJECTED}; allow more, or mend them, delete {directory} and build "
        "anew"
    )


def _write_rejected(directory: Path, bad: Sequence[tuple[str, str]]) -> None:
    lines = sorted(f"{name}\t{' '.join(reason.split())}\n" for name, reason in bad)
    write_atomically(directory / REJECTED, "".join(lines))


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
        features=records.features(contents.widths),
        description=DESCRIPTION,
        metadata=tfds.core.MetadataDict(contents.metadata),
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(tfds.core.splits.SplitDict(splits))
    spec, widths, origin = contents.spec, contents.widths, contents.origin
    stored = Stored.of_splits(directory, spec, widths, origin, splits)
    kept = [reports[path.name] for split in splits for path in split.filepaths]
    with added_files(directory, directory / UNFINISHED / "metadata", last=COMPLETE) as staging:
        info.write_to_directory(staging)
        (staging / dataset.DURATIONS_SEC).write_text(json.dumps(durations_sec))
        (staging / dataset.CORPORA).write_text(json.dumps(corpora))
        (staging / dataset.LATENT_STATS).write_text(latent_stats.fit(stored))
        (staging / SHA256SUMS).write_text("".join(f"{r.sha256}  {r.shard}\n" for r in kept))


def _template(directory: Path, split: str | None) -> Any:
    return tfds.core.ShardedFileTemplate(
        data_dir=str(directory),
        dataset_name=dataset.NAME,
        split=split,
        filetype_suffix="array_record",
    )
