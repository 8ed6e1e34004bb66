"""Records of shards in a bucket are those of a disk, wherever copies of them lie."""

import hashlib
import pickle
import random
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from tests import buckets
from vssflow_jax.input_pipeline.dataset import check_shards
from vssflow_jax.input_pipeline.shards import CacheOptions, CopiedRecords, Records, open_records
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, copy
from vssflow_jax.utils.stores import BucketPath

LENGTHS = (5, 7, 3, 6)
SHARDS = len(LENGTHS)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("shards"), random.Random(0)
    paths = [folder / f"shard-{number}" for number in range(SHARDS)]
    for path, length in zip(paths, LENGTHS, strict=True):
        writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        for _ in range(length):
            writer.write(rng.randbytes(rng.randrange(1, 5000)))
        writer.close()
    return paths


@pytest.fixture(scope="module")
def sha256(disk: list[Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in disk}


@pytest.fixture(params=buckets.SCHEMES)
def stored(request: pytest.FixtureRequest, stores_there: None, disk: list[Path]) -> list[Path]:
    folder = as_path(f"{request.param}://{buckets.BUCKET}/{uuid.uuid4().hex}")
    for path in disk:
        copy(path, folder / path.name)
    return [folder / path.name for path in disk]


def everything(records: Records) -> list[bytes]:
    return [records[index] for index in range(len(records))]


def opened(paths: Sequence[Path], options: CacheOptions, sha256: dict[str, str]) -> Records:
    return open_records(paths, LENGTHS, options, sha256)


def copies(folder: Path) -> set[str]:
    return {path.name.partition("-")[2] for path in folder.iterdir() if path.is_file()}


def test_records_are_those_of_the_disk(disk, stored, sha256, tmp_path: Path):
    wanted = everything(opened(disk, CacheOptions(), {}))
    assert len(wanted) == sum(LENGTHS)
    for options in (CacheOptions(), CacheOptions(str(tmp_path / "copies"))):
        for known in (sha256, {}):
            records = opened(stored, options, known)
            assert everything(records) == wanted
    assert copies(tmp_path / "copies") == {path.name for path in disk}


def test_all_are_copied_ahead(stored, sha256, tmp_path: Path):
    records = opened(stored, CacheOptions(str(tmp_path)), sha256)
    assert isinstance(records, CopiedRecords)
    assert records[0]
    for thread in records._ahead:
        thread.join()
    assert copies(tmp_path) == {path.name for path in stored}


def test_a_small_folder_does(disk, stored, sha256, tmp_path: Path):
    sizes = [path.stat().st_size for path in disk]
    options = CacheOptions(str(tmp_path), max_gb=max(sizes) / 1e9)
    records = opened(stored, options, sha256)
    wanted = everything(opened(disk, CacheOptions(), {}))
    order = random.Random(1).choices(range(len(wanted)), k=60)
    for thread in records._ahead:
        thread.join()
    assert [records[index] for index in order] == [wanted[index] for index in order]
    for thread in records._ahead:
        thread.join()
    records[0]
    assert len(copies(tmp_path)) <= 2  # the last may go beyond


def test_another_process_and_many_threads_read_too(disk, stored, sha256, tmp_path: Path):
    wanted = everything(opened(disk, CacheOptions(), {}))
    records = opened(stored, CacheOptions(str(tmp_path)), sha256)
    assert records[0] == wanted[0]
    there = pickle.loads(pickle.dumps(records))
    found: list[list[bytes]] = []
    threads = [threading.Thread(target=lambda: found.append(everything(there))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 4


def test_a_shard_that_is_another_one_is_damaged(stored, sha256, tmp_path: Path):
    copy(stored[1], stored[0])
    records = opened(stored, CacheOptions(str(tmp_path)), sha256)
    with pytest.raises(UserError, match=f"{stored[0]} is damaged"):
        records[0]


def test_a_missing_shard_is_told_of_at_once(stored):
    expected = dict(zip(stored, LENGTHS, strict=True))
    check_shards(stored[0].parent, expected, CacheOptions())
    stored[2].unlink()
    with pytest.raises(UserError, match=f"{stored[2]} is missing"):
        check_shards(stored[0].parent, expected, CacheOptions())


def test_copies_lie_on_this_machine():
    with pytest.raises(UserError, match=r"data\.cache_dir is gs://bucket/x"):
        open_records([BucketPath.parse("s3://b/x")], [1], CacheOptions("gs://bucket/x"), {})
