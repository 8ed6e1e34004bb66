"""Shards of records wherever they lie: on a disk, or in a bucket.

The library of ArrayRecord reads `gs://` by itself, a request for each record. It does not know
`s3://`: such shards are copied whole, into a folder of this machine that holds what was used last
(`vssflow_jax.utils.object_cache`), and `gs://` ones are too where that folder is named.
"""

import bisect
import dataclasses
import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import ml_collections
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordReader

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, bucket_path
from vssflow_jax.utils.object_cache import MAX_BYTES, ObjectCache, default_folder, local
from vssflow_jax.utils.stores import BucketPath

SHA256SUMS = "SHA256SUMS"
"""Digests of the shards beside them, as `sha256sum --check` reads them."""
_AHEAD = 4  # shards that are fetched at a time
_READER = "readahead_buffer_size:0"  # records are read in any order
_WAITS_SEC = (0.5, 2.0, 8.0)  # before a record is asked for again


class Records(Protocol):
    """Records by their index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class CacheOptions:
    """Where copies of shards lie.

    Attributes:
      folder: folder of this machine; "": only those lie anywhere that must, and in a folder of the
        user.
      max_gb: what all of them may have of it.
    """

    folder: str = ""
    max_gb: float = MAX_BYTES / 1e9

    @classmethod
    def from_config(cls, data: ml_collections.ConfigDict) -> "CacheOptions":
        """Those of the `data` section of a config, which earlier ones do not have."""
        return cls(data.get("cache_dir", ""), data.get("cache_gb", MAX_BYTES / 1e9))

    @property
    def cache(self) -> ObjectCache:
        """The copies."""
        # Apart from what `local` copies, which has another limit.
        folder = as_path(self.folder) if self.folder else default_folder("shards")
        if bucket_path(folder):
            raise UserError(f"data.cache_dir is {folder}; name a folder of this machine")
        return ObjectCache(folder, int(self.max_gb * 1e9))

    def used_for(self, path: Path) -> bool:
        """Whether a shard is copied before it is read."""
        bucket = bucket_path(path)
        return bucket is not None and (bucket.scheme == "s3" or bool(self.folder))


def open_records(
    paths: Sequence[Path], lengths: Sequence[int], options: CacheOptions, sha256: Mapping[str, str]
) -> Records:
    """The records of several shards, one after the other.

    Args:
      paths: shards, all in one folder.
      lengths: numbers of their records.
      options: where copies lie.
      sha256: name of a shard -> its digest, as far as they are known.
    """
    if paths and options.used_for(paths[0]):
        buckets = [bucket for path in paths if (bucket := bucket_path(path))]
        known = [sha256.get(path.name, "") for path in paths]
        return CopiedRecords(buckets, lengths, known, options.cache)
    if paths and (bucket := bucket_path(paths[0])):
        return RemoteRecords([str(path) for path in paths], bucket)
    return ArrayRecordDataSource([str(path) for path in paths])


def open_reader(path: Path) -> ArrayRecordReader:
    """A reader of one shard, which is copied if need be."""
    bucket = bucket_path(path)
    return ArrayRecordReader(str(path if bucket and bucket.scheme == "gs" else local(path)))


def read_sha256(directory: Path) -> dict[str, str]:
    """The SHA-256 that each shard was made with, by its name, as far as it is known."""
    path = directory / SHA256SUMS
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


class RemoteRecords:
    """Records of shards that are read where they are, over a network that fails now and then.

    Args:
      paths: the shards.
      first: the first of them.
    """

    def __init__(self, paths: Sequence[str], first: BucketPath):
        self._paths, self._first = paths, first
        self._source = ArrayRecordDataSource(paths)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> bytes:
        """A record.

        Raises:
          OSError: the bucket cannot be reached.
          RuntimeError: the record is damaged.
        """
        for wait_sec in _WAITS_SEC:
            with suppress(RuntimeError):
                return self._read(index)
            time.sleep(wait_sec)
            # What failed once may go on failing.
            self._source = ArrayRecordDataSource(self._paths)
        self._first.stat()  # Where this fails, it is not the record's fault.
        return self._read(index)

    def _read(self, index: int) -> bytes:
        record: bytes = self._source[index]
        return record


class CopiedRecords:
    """Records of shards that are copied from a bucket, each when it is first needed.

    Until then they are copied one after the other in the background, as far as there is room.

    Args:
      paths: the shards.
      lengths: numbers of their records.
      sha256: their digests, "" where one is not known.
      cache: the copies.
    """

    def __init__(
        self,
        paths: Sequence[BucketPath],
        lengths: Sequence[int],
        sha256: Sequence[str],
        cache: ObjectCache,
    ):
        self._paths, self._cache = paths, cache
        self._sha256 = sha256
        # Asked for once, not at each record.
        self._versions = [
            known or path.stat().version for known, path in zip(sha256, paths, strict=True)
        ]
        self._firsts = [0, *itertools.accumulate(lengths)]
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, tuple[int, ArrayRecordReader]] = {}  # by shard; inode of its copy
        self._ahead: list[threading.Thread] = []
        self._filled, self._filled_bytes = 0, 0

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which opens its own files."""
        own = ("_lock", "_open", "_ahead", "_filled", "_filled_bytes")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getitem__(self, index: int) -> bytes:
        """A record.

        Raises:
          UserError: its shard is damaged, or there is no room for it.
          OSError: its shard cannot be fetched.
          RuntimeError: the record is damaged.
        """
        self._copy_ahead()
        shard = bisect.bisect(self._firsts, index) - 1
        record: bytes = self._reader(shard).read([index - self._firsts[shard]])[0]
        return record

    def _reader(self, shard: int) -> ArrayRecordReader:
        while True:
            copy = self._copy(shard)
            with self._lock, suppress(FileNotFoundError):  # removed by another process just now
                inode = copy.stat().st_ino
                if shard not in self._open or self._open[shard][0] != inode:
                    reader = ArrayRecordReader(str(copy), options=_READER)
                    if not reader.ok() and not copy.exists():
                        continue
                    # Of a copy that had to go and came back the first one is not kept open, for it
                    # would take room as well.
                    self._open[shard] = inode, reader
                return self._open[shard][1]

    def _copy(self, shard: int) -> Path:
        sha256, version = self._sha256[shard], self._versions[shard]
        return self._cache.fetch(self._paths[shard], sha256, version)

    def _copy_ahead(self) -> None:
        with self._lock:
            if self._ahead:
                return
            self._ahead = [threading.Thread(target=self._fill, daemon=True) for _ in range(_AHEAD)]
            for thread in self._ahead:
                thread.start()

    def _fill(self) -> None:
        """Copy shards that nobody else has begun with, until there is no room for more."""
        with suppress(OSError, UserError):  # Whoever needs the shard hears of it.
            while True:
                with self._lock:
                    shard, is_room = self._filled, self._filled_bytes < self._cache.max_bytes
                    self._filled += 1
                if shard >= len(self._paths) or not is_room:
                    return
                size = self._copy(shard).stat().st_size
                with self._lock:
                    self._filled_bytes += size
