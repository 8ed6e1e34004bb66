"""Opening and closing of files; which streams of them count."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, whole
from vssflow_jax.utils.object_cache import local
from vssflow_jax.utils.optional import require

EXTRA: Final = "demo"
FORMATS: Final = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
"""What FFmpeg calls the containers that are written, by suffix."""
SUFFIXES: Final = tuple(FORMATS)
VIDEOS: Final = (
    *SUFFIXES,
    *(".webm", ".avi", ".mpg", ".mpeg", ".m4v", ".ts", ".mts", ".wmv", ".flv", ".3gp"),
)
"""Suffixes of files that are looked for in folders of videos; FFmpeg reads more."""
_PIECE: Final = re.compile(r"(.+)#t=(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?")


class Place(NamedTuple):
    """A file, or a piece of one.

    Attributes:
      path: path of the file.
      piece: seconds after the first picture at which it begins and ends; None for all of it. The
        end is None where it is that of the file.
    """

    path: Path
    piece: tuple[Fraction, Fraction | None] | None = None


def located(path: str | Path) -> Place:
    """Takes "clip.mp4#t=12.5,20" apart, as W3C's Media Fragments URI 1.0 names a piece of a file.

    A file that is called so comes first.

    Raises:
      UserError: the piece ends before it begins.
    """
    match = _PIECE.fullmatch(str(path))
    if match is None or as_path(path).is_file():
        return Place(as_path(path))
    start, end = Fraction(match[2]), Fraction(match[3]) if match[3] else None
    if end is not None and end <= start:
        raise UserError(f"{path}: ends before it begins")
    return Place(as_path(match[1]), (start, end))


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """Opens a file for reading; FFmpeg's errors, also those of decoding, become UserErrors."""
    av = require("av", EXTRA)
    if not as_path(path).is_file():
        raise UserError(f"{path}: no such file")
    with reading(path), av.open(str(local(as_path(path)))) as container:
        yield container


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """FFmpeg's errors become UserErrors that name the file."""
    av = require("av", EXTRA)
    try:
        yield
    except av.FFmpegError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); replace the file") from error


def seek(container: Any, stream: Any, time_sec: Fraction) -> bool:
    """Goes to where a stream can be decoded from, at or before a time on the file's own time line.

    Returns:
      whether the container could; if not, it stays where it is.
    """
    unit = exact(stream.time_base)
    assert unit is not None
    try:
        container.seek(round(time_sec / unit), stream=stream)
    except require("av", EXTRA).FFmpegError:
        return False
    return True


@contextmanager
def created(path: str | Path) -> Iterator[Any]:
    """Opens a file for writing; it appears under its name only when it is whole.

    It is written beside its final place under a temporary name and renamed, so that an interrupted
    run leaves no half of a file behind.
    """
    av = require("av", EXTRA)
    path = as_path(path)
    suffix = path.suffix.lower()
    try:
        with (
            whole(path) as partial,
            av.open(str(partial), "w", format=FORMATS[suffix]) as container,
        ):
            yield container
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def video_stream(container: Any, path: str | Path) -> Any:
    """The stream that a player shows: the first that is marked as default, or the first.

    Raises:
      UserError: there is none, or only a cover picture.
    """
    chosen = find_video(container)
    if chosen is None:
        only = ", only a cover picture" if container.streams.video else ""
        raise UserError(f"{path}: has no video stream{only}")
    return chosen


def find_video(container: Any) -> Any | None:
    """As `video_stream`; None if there is none."""
    still = require("av", EXTRA).stream.Disposition.attached_pic
    return _default([s for s in container.streams.video if not s.disposition & still])


def audio_stream(container: Any, path: str | Path) -> Any:
    """The stream that a player plays: the first that is marked as default, or the first.

    Raises:
      UserError: the file has no sound.
    """
    chosen = _default(container.streams.audio)
    if chosen is None:
        raise UserError(f"{path}: has no audio stream")
    return chosen


def exact(ratio: Any) -> Fraction | None:
    """A ratio of PyAV, whose type depends on its version; None if it is 0 or unknown."""
    return Fraction(ratio.numerator, ratio.denominator) if ratio else None


def _default(streams: Any) -> Any | None:
    default = require("av", EXTRA).stream.Disposition.default
    return next((s for s in streams if s.disposition & default), next(iter(streams), None))
