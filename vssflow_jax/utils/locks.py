"""Locks between processes: one of them alone does what is done within.

On a disk the system holds the lock, and lets it go when the process ends. In a bucket it is an
object that the first creates, and that says who and when; its holder writes it anew while it works.
A lock that was not for `DEAD_SEC` is of a process that was killed, and whoever comes next takes it.
Clocks of machines must not differ by that much.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from vssflow_jax.utils.files import bucket_path
from vssflow_jax.utils.stores import BucketPath

RENEW_SEC = 20.0
DEAD_SEC = 180.0


class Locked(Exception):
    """Another process holds the lock; the text says which, where that is known."""


@contextlib.contextmanager
def lock(path: Path, *, wait: bool = False) -> Iterator[None]:
    """While no other process holds the lock of this path.

    Args:
      path: a file that is for nothing else, in a folder that is there.
      wait: whether to wait for it, which is for those on a disk.

    Raises:
      Locked: another process holds it.
    """
    if bucket := bucket_path(path):
        with _held(bucket):
            yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise Locked("") from error
        yield


@contextlib.contextmanager
def _held(path: BucketPath) -> Iterator[None]:
    holder = f"{socket.gethostname()}, process {os.getpid()}, {uuid.uuid4().hex}"
    _take(path, holder)
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_SEC):
            with contextlib.suppress(OSError):  # It may work the next time.
                if _is_of(path, holder):
                    path.write_bytes(_stamped(holder))

    renewing = threading.Thread(target=renew, daemon=True, name="lock")
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join()
        if _is_of(path, holder):
            path.unlink(missing_ok=True)


def _is_of(path: BucketPath, holder: str) -> bool:
    """Whether a holder has its lock still, which others took for dead if it slept for long."""
    found = _read(path)
    return found is not None and found[0] == holder


def _stamped(holder: str) -> bytes:
    return json.dumps({"holder": holder, "unix_time": time.time()}).encode()


def _take(path: BucketPath, holder: str) -> None:
    """Create the lock, in place of a dead one if need be.

    Raises:
      Locked: it is held.
    """
    with contextlib.suppress(FileExistsError):
        path.create(_stamped(holder))
        return
    found = _read(path)
    if found is None or time.time() - found[1] < DEAD_SEC:
        raise Locked(found[0] if found else "")
    # Of all that find it dead one alone may remove it: who creates this, named for what it found.
    grave = path.with_name(f"{path.name}.{found[0].rpartition(' ')[2]}")
    try:
        grave.create(b"")
    except FileExistsError as error:
        raise Locked("") from error
    try:
        if _read(path) != found:
            raise FileExistsError
        path.unlink()
        path.create(_stamped(holder))
    except FileExistsError as error:
        raise Locked("") from error
    finally:
        grave.unlink(missing_ok=True)


def _read(path: BucketPath) -> tuple[str, float] | None:
    """Who holds a lock, and since when nothing was heard of them; None if it is gone."""
    try:
        values = json.loads(path.read_bytes())
        return str(values["holder"]), float(values["unix_time"])
    except FileNotFoundError:
        return None
