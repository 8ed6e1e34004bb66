"""Rows that are appended to a file, and folders that grow: on a disk, or for a bucket.

Nothing can be appended to an object. So what is for a bucket lies in a folder of this machine and
is put there whole, now and then in the background, and whenever it has to be there.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import bucket_path, whole_lines
from vssflow_jax.utils.stores import BucketPath

EVERY_SEC = 30.0
"""How often what is new is put at most; so much of it is lost by a kill."""


class Folder(contextlib.AbstractContextManager["Folder"]):
    """A folder to write into, and its files where they are meant to be.

    Args:
      path: where they are meant to be: a folder of a disk, which is then written itself, or one of
        a bucket.
    """

    def __init__(self, path: Path):
        self._target = bucket_path(path)
        self._temporary = tempfile.TemporaryDirectory() if self._target else None
        self.local = Path(self._temporary.name) if self._temporary else path
        """Of this machine."""
        self._there: dict[str, tuple[int, int]] = {}  # name -> size and time of what was put
        self._putter = ThreadPoolExecutor(1, thread_name_prefix="put")
        self._under_way: Future[None] | None = None
        self._last_sec = time.monotonic()

    def put_now_and_then(self) -> None:
        """Put what is new in the background, if that has not been done for `EVERY_SEC`.

        What cannot be put is tried again the next time, and told of by `put`.
        """
        is_idle = self._under_way is None or self._under_way.done()
        if self._target and is_idle and time.monotonic() - self._last_sec >= EVERY_SEC:
            self._last_sec = time.monotonic()
            self._under_way = self._putter.submit(self._put, self._target)

    def put(self) -> None:
        """Put what is new, now.

        Raises:
          UserError: the bucket does not take it.
        """
        if not self._target:
            return
        try:
            self._putter.submit(self._put, self._target).result()
        except OSError as error:
            raise UserError(
                f"{error.filename}: cannot be written ({error.strerror}); see to the bucket and "
                "run the same command again"
            ) from error

    def _put(self, target: BucketPath) -> None:
        for path in sorted(self.local.rglob("*")):
            name, stat = str(path.relative_to(self.local)), path.stat()
            state = stat.st_size, stat.st_mtime_ns
            if path.is_file() and self._there.get(name) != state:
                (target / name).write_bytes(path.read_bytes())
                self._there[name] = state

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self.put()
        except UserError as lost:
            if not error:
                raise
            # An error that is under way is the one to end by.
            print(f"warning: {lost}", file=sys.stderr)
        finally:
            self._putter.shutdown()
            if self._temporary:
                self._temporary.cleanup()


class JsonLines(contextlib.AbstractContextManager["JsonLines"]):
    """Appends rows to a file; a row that a kill cut short is dropped on opening."""

    def __init__(self, path: Path):
        self._folder = None
        if bucket := bucket_path(path):
            self._folder = Folder(path.parent)
            local = self._folder.local / bucket.name
            with contextlib.suppress(FileNotFoundError):
                local.write_bytes(bucket.read_bytes())
            path = local
        if path.is_file():
            os.truncate(path, len(whole_lines(path)))
        self._file = path.open("a")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row and hand it to the system at once, or to a bucket soon."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._folder:
            self._folder.put_now_and_then()

    def put(self) -> None:
        """Return when all rows are where they are meant to be.

        Raises:
          UserError: the bucket does not take them.
        """
        if self._folder:
            self._folder.put()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._file.close()
        if self._folder:
            self._folder.__exit__(kind, error, trace)
