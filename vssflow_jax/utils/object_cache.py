"""Copies of objects on this machine, for what can only open a file by its name.

They lie in a folder that all processes of the machine share: each object is fetched by one of them,
appears whole, and stays until there is no room and it is the one that was not used for longest. A
process that has a copy open goes on reading it though it is removed. An object that has changed in
its bucket is fetched again.
"""

import dataclasses
import hashlib
import os
import uuid
from pathlib import Path

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import bucket_path
from vssflow_jax.utils.locks import lock
from vssflow_jax.utils.stores import BucketPath

MAX_BYTES = 64 << 30
_NAME = 24  # digits in front of a copy's own name
_LOCKS = "locks"


def local(path: Path) -> Path:
    """A file of this machine with the content of `path`: itself, or a copy of the object.

    Raises:
      OSError: there is none, or it cannot be read.
    """
    if bucket := bucket_path(path):
        return ObjectCache(default_folder()).fetch(bucket)
    return path


def default_folder(name: str = "objects") -> Path:
    """Where copies of a kind lie if nothing else is asked for."""
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home or Path.home() / ".cache", "vssflow_jax", name)


@dataclasses.dataclass(frozen=True)
class ObjectCache:
    """A folder of copies.

    Attributes:
      folder: the folder; made when there is something to keep.
      max_bytes: of all copies together; the last one may go beyond.
    """

    folder: Path
    max_bytes: int = MAX_BYTES

    def fetch(self, path: BucketPath, sha256: str = "", version: str = "") -> Path:
        """The copy of an object, which is fetched if it is not there.

        Args:
          path: the object.
          sha256: what it must be, in hexadecimal digits; "": whatever is there now.
          version: tells it from earlier ones of that name; "": it is asked for.

        Raises:
          UserError: the object is not what it must be, or there is no room for it.
          OSError: it is not there, or cannot be read.
        """
        version = version or sha256 or path.stat().version
        digest = hashlib.sha256(f"{path}\n{version}".encode()).hexdigest()[:_NAME]
        copy = self.folder / f"{digest}-{path.name}"
        if _used(copy):
            return copy
        locks = self.folder / _LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with lock(locks / digest, wait=True):
            if not _used(copy):  # Another process may have fetched it.
                self._fetch(path, sha256, copy)
        return copy

    def _fetch(self, path: BucketPath, sha256: str, copy: Path) -> None:
        self._make_room(path.stat().st_size)
        partial = copy.with_name(f"{copy.name}.{uuid.uuid4().hex}.partial")
        try:
            path.get(partial)
            if sha256 and _sha256(partial) != sha256:
                raise UserError(
                    f"{path} is damaged: it is not what was written there; restore it or write it "
                    "again"
                )
            partial.replace(copy)
            self._make_room(0)  # Others may have fetched at the same time.
        except OSError as error:
            if error.filename == str(path):
                raise
            raise UserError(
                f"{self.folder}: no room for {path} ({error.strerror}); name another folder or "
                "make room"
            ) from error
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove the copies that were not used for longest, until there is room for another.

        The one that was used last stays in any case.
        """
        with lock(self.folder / _LOCKS / "room", wait=True):
            self._remove_oldest(size)

    def _remove_oldest(self, size: int) -> None:
        found = []
        for path in self.folder.iterdir():
            try:
                stat = path.stat()
            except FileNotFoundError:  # by another process
                continue
            if path.is_file() and path.suffix != ".partial":
                found.append((stat.st_mtime_ns, stat.st_size, path))
        total = size + sum(size for _, size, _ in found)
        for _, length, path in sorted(found)[: None if size else -1]:
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= length


def _used(copy: Path) -> bool:
    """Whether a copy is there, which is noted as used now."""
    try:
        os.utime(copy)
    except FileNotFoundError:
        return False
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
