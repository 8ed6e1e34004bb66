"""Files by their paths, on this machine or in a bucket; small ones that are written whole.

Whatever a person names by a flag or a field becomes a path by `as_path`. What a disk does and a
bucket does not (renaming, appending, locking, files that other libraries open by name) is done here
and in `logs`, `locks` and `object_cache` beside it, and nowhere else.
"""

import contextlib
import csv
import io
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from vssflow_jax.utils.stores import BucketPath

_URL = re.compile(r"\w[\w+.-]*://")


# ------------------------------------------------------------------------------------------- paths
def as_path(path: str | Path, *below: str | Path) -> Path:
    """The path that a person wrote, of this machine or of a bucket, `gs://` or `s3://`.

    One of a bucket is a `BucketPath`, which has what of `pathlib.Path` is used here, and no more.

    Args:
      path: what they wrote, or a path already.
      *below: what is appended; one that is absolute or a URL stands alone.

    Raises:
      UserError: a URL of another scheme; `MissingPackage` if the client of a bucket is missing.
    """
    if below:
        *others, last = below
        alone = is_url(last) or (not bucket_path(last) and Path(last).is_absolute())
        return as_path(last) if alone else as_path(path, *others) / last
    if isinstance(path, BucketPath):
        return path
    return cast(Path, BucketPath.parse(str(path))) if is_url(path) else Path(path)


def is_url(path: Any) -> bool:
    """Whether a text is no path of this machine."""
    return isinstance(path, str) and _URL.match(path) is not None


def bucket_path(path: Any) -> BucketPath | None:
    """The path, if it is of a bucket."""
    return path if isinstance(path, BucketPath) else None


def version(path: Path) -> tuple[int, int | str]:
    """Tells a file from what was there before it, without reading it.

    Raises:
      OSError: there is none.
    """
    if bucket := bucket_path(path):
        of_object = bucket.stat()
        return of_object.st_size, of_object.version
    of_file = path.stat()
    return of_file.st_size, of_file.st_mtime_ns


# ----------------------------------------------------------------------------------- whole or not
@contextlib.contextmanager
def whole(path: Path, aside: Path | None = None) -> Iterator[Path]:
    """A file of this machine to write; it then appears at `path`, whole or not at all.

    Args:
      path: where it is to be.
      aside: folder of the same disk to write it in; None: that of the file.
    """
    if bucket := bucket_path(path):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, path.name)
            yield local
            bucket.put(local)
        return
    # Another process may write it too; the name of the file may be as long as names can be.
    partial = (aside or path.parent) / f".{uuid.uuid4().hex[:16]}.partial"
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what `whole` was writing into a folder of this machine when a process was killed.

    Nobody may be writing there.
    """
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a small file so that it is there whole or not at all."""
    content = content.encode() if isinstance(content, str) else content
    if bucket_path(path):
        path.write_bytes(content)  # which is how buckets do it
        return
    with whole(path) as partial:
        partial.write_bytes(content)


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table with the columns `names`, whole or not at all; what a row lacks is empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def copy(source: Path, target: Path) -> None:
    """Copy a file, from wherever to wherever; it appears whole."""
    with whole(target) as partial, source.open("rb") as read, partial.open("wb") as written:
        shutil.copyfileobj(read, written)


# ------------------------------------------------------------------------------------- whole trees
def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it, if it is there."""
    if bucket := bucket_path(folder):
        bucket.remove_tree()
    else:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def discard(folder: Path) -> None:
    """Remove a folder; on a disk nothing is left under its name if that is cut short."""
    if bucket_path(folder):
        remove_tree(folder)
        return
    aside = folder.with_name(f"{folder.name}.replaced")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside)


def move_tree(folder: Path, target: Path) -> None:
    """Give a folder another name; in a bucket object by object."""
    bucket, new = bucket_path(folder), bucket_path(target)
    if bucket is None or new is None:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
        return
    for path in bucket.rglob("*"):
        path.copy(new / str(path.relative_to(bucket)))
    bucket.remove_tree()


@contextlib.contextmanager
def whole_tree(folder: Path) -> Iterator[Path]:
    """A folder of this machine to fill; it then appears as `folder`, which is new or empty.

    On a disk that happens at once. A bucket gets one object after the other, those of the folder
    itself by name, so that who is to know that all are there looks for the last.
    """
    if bucket := bucket_path(folder):
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
            for path in sorted(Path(name).rglob("*")):
                if path.is_file():
                    (bucket / str(path.relative_to(name))).put(path)
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def added_files(folder: Path, aside: Path, last: str) -> Iterator[Path]:
    """A folder of this machine to fill; its files then appear in `folder`, each of them whole.

    Args:
      folder: gets them.
      aside: folder of the same disk to write them in, which may be there.
      last: the file that appears after all others.
    """
    bucket = bucket_path(folder)
    with tempfile.TemporaryDirectory() if bucket else contextlib.nullcontext(aside) as staging:
        staging = Path(staging)
        staging.mkdir(exist_ok=True)
        yield staging
        for path in sorted(staging.iterdir(), key=lambda path: path.name == last):
            if bucket:
                (bucket / path.name).put(path)
            else:
                path.replace(folder / path.name)


# ------------------------------------------------------------------------------------------- lines
def whole_lines(path: Path) -> bytes:
    """The file but for a last line that a kill cut short."""
    text = path.read_bytes()
    return text[: text.rfind(b"\n") + 1]


def is_writable(folder: Path) -> bool:
    """Whether files can be written into a folder; of a bucket that shows when it is done."""
    return bucket_path(folder) is not None or (folder.is_dir() and os.access(folder, os.W_OK))
