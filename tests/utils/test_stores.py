"""Paths of buckets, against emulators of both stores."""

import errno
import json
import os
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from tests import buckets, tiny
from vssflow_jax.utils import locks, logs, optional, stores
from vssflow_jax.utils.errors import MissingPackage, UserError
from vssflow_jax.utils.files import (
    added_files,
    as_path,
    discard,
    move_tree,
    remove_tree,
    whole,
    whole_tree,
    write_atomically,
    write_csv,
)
from vssflow_jax.utils.locks import Locked, lock
from vssflow_jax.utils.logs import Folder, JsonLines
from vssflow_jax.utils.object_cache import ObjectCache, local
from vssflow_jax.utils.stores import BucketPath


@pytest.fixture(params=buckets.SCHEMES)
def folder(request: pytest.FixtureRequest, stores_there: None) -> BucketPath:
    """An empty folder of each store."""
    return BucketPath.parse(f"{request.param}://{buckets.BUCKET}/{uuid.uuid4().hex}")


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*")]


# ------------------------------------------------------------------------------------------- names
def test_a_path_of_this_machine_stays_one():
    assert as_path("runs/demo") == Path("runs/demo")
    assert as_path("runs", "demo", "/data") == Path("/data")
    assert as_path("") == Path()


def test_parts_of_a_bucket_path_are_those_of_a_path():
    path = as_path("gs://bucket/a/b.tar.gz")
    assert str(path) == "gs://bucket/a/b.tar.gz"
    assert (path.name, path.stem, path.suffix) == ("b.tar.gz", "b.tar", ".gz")
    assert str(path.parent / "c" / "../d") == "gs://bucket/a/d"
    assert str(path.with_name("x")) == "gs://bucket/a/x"
    assert str(path.relative_to(path.parent.parent)) == "a/b.tar.gz"
    assert path.absolute() == path.resolve() == path.expanduser() == path
    assert sorted([as_path("s3://b/x"), as_path("gs://b/x")])[0].as_posix() == "gs://b/x"


def test_what_is_joined_to_a_path_may_be_a_url():
    assert str(as_path("runs", "s3://bucket/x")) == "s3://bucket/x"
    assert str(as_path("gs://bucket/x", "s3://bucket/y")) == "s3://bucket/y"
    assert as_path("gs://bucket/x", "/data/y") == Path("/data/y")
    assert str(as_path("gs://bucket/x", "y", "z")) == "gs://bucket/x/y/z"


def test_a_bucket_path_is_refused_by_what_knows_only_files():
    with pytest.raises(TypeError):
        os.fspath(as_path("s3://bucket/x"))
    with pytest.raises(TypeError):
        Path(as_path("s3://bucket/x"))


@pytest.mark.parametrize("url", ["az://bucket/x", "http://host/x", "gs://", "s3:///x"])
def test_other_urls_are_refused(url: str):
    with pytest.raises(UserError, match=f"^{url}"):
        as_path(url)


def test_a_missing_client_is_told_of(monkeypatch):
    def missing(package: str, extra: str) -> None:
        raise MissingPackage(f"no {package}: {extra}")

    stores._prepare.cache_clear()
    monkeypatch.setattr(optional, "check", missing)
    with pytest.raises(MissingPackage, match="no s3fs: s3"):
        as_path("s3://bucket/x")


def test_clients_are_imported_when_they_are_needed():
    code = "import sys, vssflow_jax.train.loop, vssflow_jax.cli; print(*sys.modules)"
    done = tiny.run([sys.executable, "-c", code])
    modules = {name.partition(".")[0] for name in done.stdout.split()}
    assert "vssflow_jax" in modules
    assert not modules & {"fsspec", "gcsfs", "s3fs", "aiohttp", "botocore"}


# ----------------------------------------------------------------------------------------- objects
def test_objects_come_and_go(folder: BucketPath):
    assert not folder.exists()
    assert list(folder.glob("*")) == []
    for name in ("a.txt", "b/c.txt", "b/d/e.txt"):
        (folder / name).write_text(f"in {name}")
    assert folder.is_dir()
    assert not folder.is_file()
    assert (folder / "a.txt").is_file()
    assert [path.name for path in folder.iterdir()] == ["a.txt", "b"]
    assert [path.name for path in folder.glob("*/*.txt")] == ["c.txt"]
    assert names(folder) == ["a.txt", "b/c.txt", "b/d/e.txt"]
    assert (folder / "b/c.txt").read_text() == "in b/c.txt"
    assert (folder / "a.txt").stat().st_size == len("in a.txt")
    remove_tree(folder / "b")
    assert names(folder) == ["a.txt"]
    (folder / "a.txt").unlink()
    (folder / "a.txt").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (folder / "a.txt").unlink()
    remove_tree(folder)


def test_what_another_process_writes_is_seen(folder: BucketPath, tmp_path: Path):
    (folder / "a").write_text("1")
    assert names(folder) == ["a"]
    code = "import sys; from vssflow_jax.utils.files import as_path; "
    code += "as_path(sys.argv[1]).write_text('2')"
    for name in ("a", "b"):
        done = tiny.run([sys.executable, "-c", code, str(folder / name)])
        assert done.returncode == 0, done.stderr
    assert names(folder) == ["a", "b"]
    assert (folder / "a").read_text() == "2"


def test_errors_name_the_object(folder: BucketPath):
    with pytest.raises(FileNotFoundError) as error:
        (folder / "none").read_bytes()
    assert error.value.filename == f"{folder}/none"
    with pytest.raises(ValueError, match="can be opened as 'a'"):
        (folder / "none").open("a")


def test_files_are_written_whole(folder: BucketPath):
    write_atomically(folder / "a", "text")
    write_csv(folder / "b.csv", ["x"], [{"x": 1}])
    with whole(folder / "c") as partial:
        partial.write_text("whole")
        assert not (folder / "c").exists()
    with pytest.raises(IsADirectoryError), whole(folder / "d") as partial:
        partial.parent.write_text("no file")
    assert names(folder) == ["a", "b.csv", "c"]
    assert (folder / "c").read_text() == "whole"


def test_trees_are_moved_and_made(folder: BucketPath, tmp_path: Path):
    with whole_tree(folder / "w") as made:
        (made / "x").mkdir()
        (made / "x" / "y").write_text("y")
    move_tree(folder / "w", folder / "v")
    assert names(folder) == ["v/x/y"]
    discard(folder / "v")
    with added_files(folder, tmp_path / "aside", last="a") as staging:
        for name in ("a", "b"):
            (staging / name).write_text(name)
    assert names(folder) == ["a", "b"]


# -------------------------------------------------------------------------------------------- logs
def test_rows_are_put_and_read_back(folder: BucketPath):
    path = folder / "log.jsonl"
    with JsonLines(path) as log:
        log.write({"step": 1})
        assert not path.exists()  # it is not time yet
        log.put()
        assert path.read_text() == '{"step": 1}\n'
        log.write({"step": 2})
    path.write_bytes(path.read_bytes() + b'{"ste')  # what no put leaves, but a copy may
    with JsonLines(path) as log:
        log.write({"step": 3})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_rows_are_put_now_and_then(folder: BucketPath, monkeypatch):
    monkeypatch.setattr(logs, "EVERY_SEC", 0.0)
    with JsonLines(folder / "log.jsonl") as log:
        log.write({"step": 1})
        deadline = time.monotonic() + 60
        while not (folder / "log.jsonl").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_store_that_takes_nothing_is_told_of_once_it_matters(folder: BucketPath, monkeypatch):
    def refuse(self: BucketPath, content: bytes) -> int:
        raise PermissionError(13, "denied", str(self))

    monkeypatch.setattr(logs, "EVERY_SEC", 0.0)
    with JsonLines(folder / "log.jsonl") as log:
        with monkeypatch.context() as patch:
            patch.setattr(BucketPath, "write_bytes", refuse)
            log.write({"step": 1})
            with pytest.raises(UserError, match=r"log\.jsonl: cannot be written \(denied\)"):
                log.put()
        log.put()  # as it is well again
    assert (folder / "log.jsonl").read_text() == '{"step": 1}\n'


def test_a_folder_is_put_with_what_is_new(folder: BucketPath):
    with Folder(folder / "board") as board:
        (board.local / "a").write_text("1")
        board.put()
        (board.local / "b").write_text("2")
    assert names(folder) == ["board/a", "board/b"]


# ------------------------------------------------------------------------------------------- locks
def test_of_many_one_holds_the_lock(folder: BucketPath):
    held, refused = [], []
    barrier, leave = threading.Barrier(4), threading.Event()

    def try_it() -> None:
        barrier.wait()
        try:
            with lock(folder / "lock"):
                held.append(1)
                leave.wait(60)
        except Locked as error:
            refused.append(str(error))

    threads = [threading.Thread(target=try_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(refused) < 3 and any(thread.is_alive() for thread in threads):
        time.sleep(0.01)
    leave.set()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 3)
    with lock(folder / "lock"):
        assert names(folder) == ["lock"]
    assert names(folder) == []


def test_a_dead_lock_is_taken_over(folder: BucketPath, monkeypatch):
    stamp = {"holder": "host, process 1, abc", "unix_time": time.time() - locks.DEAD_SEC - 1}
    (folder / "lock").write_text(json.dumps(stamp))
    with lock(folder / "lock"):
        pass
    (folder / "lock").write_text(json.dumps(stamp | {"unix_time": time.time()}))
    with pytest.raises(Locked, match="host, process 1"), lock(folder / "lock"):
        pass


def test_a_lock_that_is_held_is_renewed(folder: BucketPath, monkeypatch):
    monkeypatch.setattr(locks, "RENEW_SEC", 0.05)
    with lock(folder / "lock"):
        first = json.loads((folder / "lock").read_text())["unix_time"]
        deadline = time.monotonic() + 60
        while json.loads((folder / "lock").read_text())["unix_time"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_who_finds_a_dead_lock_second_leaves_it_to_the_first(folder: BucketPath):
    stamp = {"holder": "host, process 1, abc", "unix_time": time.time() - locks.DEAD_SEC - 1}
    (folder / "lock").write_text(json.dumps(stamp))
    (folder / "lock.abc").write_bytes(b"")
    with pytest.raises(Locked), lock(folder / "lock"):
        pass
    assert names(folder) == ["lock", "lock.abc"]


def test_a_lock_that_others_took_over_is_theirs(folder: BucketPath, monkeypatch):
    monkeypatch.setattr(locks, "RENEW_SEC", 0.05)
    theirs = json.dumps({"holder": "host, process 2, def", "unix_time": time.time()})
    with lock(folder / "lock"):
        (folder / "lock").write_text(theirs)
        time.sleep(0.2)
    assert (folder / "lock").read_text() == theirs


def test_a_lock_of_a_disk(tmp_path: Path):
    with lock(tmp_path / "lock"), pytest.raises(Locked), lock(tmp_path / "lock"):
        pass
    with lock(tmp_path / "lock"):
        pass


# ------------------------------------------------------------------------------------------ copies
def test_an_object_is_fetched_once_and_anew_when_it_changes(folder: BucketPath, monkeypatch):
    (folder / "a.bin").write_bytes(b"1")
    copy = local(folder / "a.bin")
    assert copy.name.endswith("-a.bin")
    assert copy.read_bytes() == b"1"
    with monkeypatch.context() as patch:
        patch.delattr(BucketPath, "get")
        assert local(folder / "a.bin") == copy
    (folder / "a.bin").write_bytes(b"22")
    assert local(folder / "a.bin").read_bytes() == b"22"
    assert local(Path("here")) == Path("here")


def test_a_copy_is_checked(folder: BucketPath, tmp_path: Path):
    (folder / "a").write_bytes(b"1")
    with pytest.raises(UserError, match="/a is damaged"):
        ObjectCache(tmp_path).fetch(folder / "a", sha256="0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_a_full_disk_is_no_fault_of_the_bucket(folder: BucketPath, tmp_path: Path, monkeypatch):
    def full(*given, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (folder / "x").write_bytes(b"1")
    monkeypatch.setattr(folder.client, "get_file", full)
    with pytest.raises(UserError, match=r"no room for .*/x \(No space left"):
        ObjectCache(tmp_path).fetch(folder / "x")


def test_what_was_not_used_for_longest_goes(folder: BucketPath, tmp_path: Path):
    cache, copies = ObjectCache(tmp_path, max_bytes=25), {}
    for name in "abcd":
        (folder / name).write_bytes(10 * name.encode())
        copies[name] = cache.fetch(folder / name)
        if name == "b":
            cache.fetch(folder / "a")
    # b went for c, and a, though used after b, for d.
    assert [name for name, copy in copies.items() if copy.exists()] == ["c", "d"]
