"""Objects of buckets, `gs://` and `s3://`, under paths that are used as `pathlib.Path` is.

The clients, gcsfs and s3fs, are the extras `gcs` and `s3`; they are imported when the first path of
their kind is used. What a bucket is not: it has no folders, so that one without objects is not
there and none needs to be made; nothing is appended to or renamed; an object appears when it was
written whole. `vssflow_jax.utils.files` builds on that what the rest needs.
"""

import contextlib
import dataclasses
import errno
import fnmatch
import functools
import io
import posixpath
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from vssflow_jax.utils import optional
from vssflow_jax.utils.errors import UserError

CLIENTS = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
"""Scheme of a URL -> the package that knows it, and the extra that installs that."""

_URL = re.compile(r"(\w[\w+.-]*)://(.*)", re.DOTALL)
_LONGEST_REASON = 300
_OF_THIS_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # that a copy is written to
_KINDS = {
    FileNotFoundError: (errno.ENOENT, "no such object or bucket"),
    FileExistsError: (errno.EEXIST, "it is there already"),
}


class Stat(NamedTuple):
    """What is known of an object.

    Attributes:
      st_size: its bytes.
      version: tells it from what had its name before.
    """

    st_size: int
    version: str


@functools.total_ordering
@dataclasses.dataclass(frozen=True)
class BucketPath:
    """The path of an object, or of a prefix that stands for a folder.

    It is no `os.PathLike`: what knows only files of this machine refuses it.

    Attributes:
      scheme: a key of `CLIENTS`.
      key: the bucket, and the path in it.
    """

    scheme: str
    key: PurePosixPath

    @classmethod
    def parse(cls, url: str) -> "BucketPath":
        """The path of a URL.

        Raises:
          UserError: another scheme, no bucket; `MissingPackage` if its client is not installed.
        """
        match = _URL.fullmatch(url)
        if match is None or match[1] not in CLIENTS:
            known = " and ".join(f"{scheme}://" for scheme in CLIENTS)
            raise UserError(
                f"{url}: no path that is understood; those of this machine and {known} are, mount "
                "or copy what lies elsewhere first (docs/launch.md)"
            )
        scheme, rest = match.groups()
        _prepare(scheme)
        if not rest.strip("/") or rest.startswith("/"):
            raise UserError(f"{url}: names no bucket; write {scheme}://BUCKET/PATH")
        return cls(scheme, _normal(PurePosixPath(rest)))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    def __repr__(self) -> str:
        return f"BucketPath('{self}')"

    def __lt__(self, other: "BucketPath") -> bool:
        return (self.scheme, self.key) < (other.scheme, other.key)

    # ------------------------------------------------------------------------- of the name alone
    @property
    def name(self) -> str:
        return self.key.name

    @property
    def stem(self) -> str:
        return self.key.stem

    @property
    def suffix(self) -> str:
        return self.key.suffix

    @property
    def parts(self) -> tuple[str, ...]:
        return (f"{self.scheme}://{self.key.parts[0]}", *self.key.parts[1:])

    @property
    def parent(self) -> "BucketPath":
        return self._at(self.key.parent) if len(self.key.parts) > 1 else self

    @property
    def parents(self) -> tuple["BucketPath", ...]:
        return tuple(self._at(key) for key in self.key.parents if key.parts)

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, BucketPath) or _URL.fullmatch(str(other)):
            return other if isinstance(other, BucketPath) else BucketPath.parse(other)
        return self._at(_normal(self.key / str(other).lstrip("/")))

    def joinpath(self, *others: Any) -> Any:
        """The path with others below it."""
        return functools.reduce(lambda path, other: path / other, others, self)

    def with_name(self, name: str) -> "BucketPath":
        """Another object beside this one."""
        return self._at(self.key.with_name(name))

    def with_suffix(self, suffix: str) -> "BucketPath":
        """Another object beside this one, whose name ends in another way."""
        return self._at(self.key.with_suffix(suffix))

    def relative_to(self, other: "BucketPath") -> PurePosixPath:
        """What leads from another path to this one.

        Raises:
          ValueError: this one is not below it.
        """
        if not isinstance(other, BucketPath) or other.scheme != self.scheme:
            raise ValueError(f"{self} is not below {other}")
        return self.key.relative_to(other.key)

    def as_posix(self) -> str:
        """The URL."""
        return str(self)

    def absolute(self) -> "BucketPath":
        """The path itself."""
        return self

    resolve = expanduser = absolute

    def samefile(self, other: Any) -> bool:
        """Whether another path is of the same object."""
        return self == other

    def _at(self, key: PurePosixPath) -> "BucketPath":
        return dataclasses.replace(self, key=key)

    # --------------------------------------------------------------------------- what lies there
    @property
    def client(self) -> Any:
        """The file system of fsspec that reaches it."""
        return client(self.scheme)

    def exists(self) -> bool:
        """Whether there is an object, or any below."""
        with self._named():
            return bool(self.client.exists(str(self.key)))

    def is_file(self) -> bool:
        """Whether there is an object."""
        with self._named():
            return bool(self.client.isfile(str(self.key)))

    def is_dir(self) -> bool:
        """Whether there are objects below."""
        with self._named():
            return bool(self.client.isdir(str(self.key)))

    def stat(self) -> Stat:
        """Size and version of the object.

        Raises:
          FileNotFoundError: there is none.
        """
        with self._named():
            found = self.client.info(str(self.key))
            if found["type"] != "file":
                raise FileNotFoundError
        return Stat(int(found["size"]), str(found.get("ETag") or found.get("generation")))

    def iterdir(self) -> Iterator["BucketPath"]:
        """Objects and folders right below, sorted.

        Raises:
          FileNotFoundError: there are none.
        """
        with self._named():
            found = self.client.ls(str(self.key), detail=False)
        names = {PurePosixPath(name.rstrip("/")) for name in found} - {self.key}
        yield from (self._at(key) for key in sorted(names))

    def glob(self, pattern: str) -> Iterator["BucketPath"]:
        """Objects and folders below whose path matches, level by level."""
        first, _, rest = pattern.partition("/")
        try:
            found = [path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, first)]
        except FileNotFoundError:
            return
        for path in found:
            yield from path.glob(rest) if rest else [path]

    def rglob(self, pattern: str) -> Iterator["BucketPath"]:
        """Objects at any depth below whose name matches."""
        with self._named():
            found = self.client.find(str(self.key))
        paths = (self._at(PurePosixPath(name)) for name in sorted(found))
        yield from (path for path in paths if fnmatch.fnmatchcase(path.name, pattern))

    # ------------------------------------------------------------------------ reading and writing
    def read_bytes(self) -> bytes:
        """The object."""
        with self._named():
            return bytes(self.client.cat_file(str(self.key)))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The object as text."""
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding).read()

    def write_bytes(self, content: bytes) -> int:
        """Write the object, whole."""
        with self._named():
            self.client.pipe_file(str(self.key), content)
        return len(content)

    def write_text(self, text: str, encoding: str = "utf-8") -> int:
        """Write the object, whole."""
        return self.write_bytes(text.encode(encoding))

    def create(self, content: bytes) -> None:
        """Write the object, of all that try at once by one alone.

        Raises:
          FileExistsError: it is there.
        """
        with self._named():
            self.client.pipe_file(str(self.key), content, mode="create")

    def open(self, mode: str = "r", encoding: str | None = None, newline: str | None = None) -> Any:
        """The object as a file; parts are read as they are asked for, what is written appears on
        closing.

        Raises:
          ValueError: a mode that no bucket has.
        """
        if mode not in ("r", "rb", "w", "wb"):
            raise ValueError(f"{self}: nothing in a bucket can be opened as '{mode}'")
        with self._named():
            file: IO[bytes] = self.client.open(str(self.key), f"{mode[0]}b")
        if "b" in mode:
            return file
        return io.TextIOWrapper(file, encoding or "utf-8", newline=newline)

    def get(self, local: Any) -> None:
        """Copy the object into a file of this machine."""
        with self._named():
            self.client.get_file(str(self.key), str(local))

    def put(self, local: Any) -> None:
        """Write a file of this machine as the object, whole."""
        with self._named():
            self.client.put_file(str(local), str(self.key))

    def copy(self, target: "BucketPath") -> None:
        """Write the object a second time, within the store."""
        with self._named():
            self.client.cp_file(str(self.key), str(target.key))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: there are no folders to be made."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object.

        Raises:
          FileNotFoundError: there is none, and that is not allowed.
        """
        if not self.is_file():
            if missing_ok:
                return
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        with self._named():
            self.client.rm_file(str(self.key))

    def remove_tree(self) -> None:
        """Remove all objects below."""
        with contextlib.suppress(FileNotFoundError), self._named():
            self.client.rm(str(self.key), recursive=True)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Whatever goes wrong becomes an OSError that names the path, as it would on a disk."""
        try:
            yield
        except optional.MissingPackage:
            raise
        except Exception as error:  # Clients raise what they like.
            if isinstance(error, OSError) and error.errno in _OF_THIS_MACHINE:
                raise
            reason = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
            code = errno.EACCES if isinstance(error, PermissionError) else errno.EIO
            known = (what for kind, what in _KINDS.items() if isinstance(error, kind))
            raise OSError(*next(known, (code, reason)), str(self)) from error


def _normal(key: PurePosixPath) -> PurePosixPath:
    """A path without `..`, which would be a part of a name in a bucket."""
    return PurePosixPath(posixpath.normpath(f"/{key}").lstrip("/")) if ".." in key.parts else key


@functools.cache
def _prepare(scheme: str) -> Any:
    """The package that all clients are modules of, told how to deal with a scheme.

    Raises:
      MissingPackage: the client's package is not installed.
    """
    package, extra = CLIENTS[scheme]
    optional.check(package, extra)
    fsspec = optional.require("fsspec", extra)
    # What is listed once would stay so, though others write and remove.
    fsspec.config.conf.setdefault(scheme, {})["use_listings_cache"] = False
    return fsspec


@functools.cache
def client(scheme: str) -> Any:
    """The file system of fsspec for a scheme; that of whatever else uses fsspec too.

    Raises:
      MissingPackage: its package is not installed.
    """
    return _prepare(scheme).filesystem(scheme)
