"""Pictures of a video as encoders want them, in blocks: no clip is ever held whole."""

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from vssflow_jax.media.container import opened, video_stream
from vssflow_jax.media.track import Track, read_track

_BLOCK_BYTES: Final = 32 << 20
_BLOCK_PICTURES: Final = 128


class View(NamedTuple):
    """How the pictures of a video are taken.

    Attributes:
      rate: pictures a second.
      size: height and width that each is stretched to; None leaves it as it is shown.
      filter: how it is stretched, by its name in FFmpeg.
    """

    rate: float
    size: tuple[int, int] | None = None
    filter: str = "BILINEAR"


def blocks(
    track: Track, counts: Mapping[View, int], tick: Callable[[int], object] = lambda _: None
) -> Iterator[tuple[View, np.ndarray]]:
    """Pictures at even times, whatever the rate of the video.

    Picture k of a view is the one that is nearest to k / rate seconds after the start of the first;
    of two that are as near it is the one of even number. After the end of the video it is black.

    Args:
      track: track of the video; it is decoded once, and no further than needed.
      counts: how many pictures of each view are wanted.
      tick: is told how many frames more have been read.

    Yields:
      A view and its next pictures, uint8 [n, h, w, 3] RGB, as they are shown; the array is not used
      again.

    Raises:
      UserError: the video cannot be decoded.
    """
    filling = {view: _Block(view.size or track.size, count) for view, count in counts.items()}
    for number, (frame, until) in enumerate(_nearest(track)):
        made: dict[tuple[Any, str], np.ndarray] = {}  # of this frame, for views of the same look
        for view, block in filling.items():
            due = until * Fraction(view.rate)
            first_not_due = math.floor(due) + 1 if number % 2 == 0 else math.ceil(due)
            if until == track.duration:
                first_not_due = math.ceil(due)
            repeats = min(first_not_due, block.count) - block.taken
            if repeats > 0:
                look = view.size, view.filter
                picture = made[look] if look in made else _picture(frame, view, track)
                made[look] = picture
                yield from ((view, full) for full in block.add(picture, repeats))
        tick(1)
        if all(block.taken == block.count for block in filling.values()):
            break
    for view, block in filling.items():
        black = np.zeros((*(view.size or track.size), 3), np.uint8)
        yield from ((view, full) for full in block.add(black, block.count - block.taken))


def read_video(path: str | Path) -> tuple[np.ndarray, float]:
    """Reads all frames of a short video, as they are shown.

    Returns:
      Frames, uint8 [n, h, w, 3] RGB, and the average frame rate in frames/s.

    Raises:
      UserError: the file is missing, unreadable, or has no video.
    """
    track = read_track(path)
    frames = [_picture(frame, View(0), track) for frame, _ in track.shown()]
    with opened(path) as container:
        return np.stack(frames), float(video_stream(container, path).average_rate)


class _Block:
    """Pictures of one size that are given away when there are enough.

    Attributes:
      count: how many there are to be in all.
      taken: how many there have been.
    """

    def __init__(self, size: tuple[int, int], count: int):
        self.count = count
        self.taken = 0
        self._shape = (*size, 3)
        self._capacity = max(min(_BLOCK_BYTES // (3 * size[0] * size[1]), _BLOCK_PICTURES), 1)
        self._pictures: list[np.ndarray] = []

    def add(self, picture: np.ndarray, repeats: int) -> Iterator[np.ndarray]:
        """Takes a picture some times; gives away what is full, and at the end the rest."""
        for _ in range(repeats):
            self._pictures.append(picture)
            self.taken += 1
            if len(self._pictures) == self._capacity or self.taken == self.count:
                yield np.stack(self._pictures)
                self._pictures.clear()


def _nearest(track: Track) -> Iterator[tuple[Any, Fraction]]:
    """Frames, and the seconds until which each is the nearest one."""
    before: tuple[Any, Fraction] | None = None
    for frame, time in track.shown():
        if before is not None:
            yield before[0], (before[1] + time) / 2
        before = frame, time
    if before is not None:
        yield before[0], track.duration


def _picture(frame: Any, view: View, track: Track) -> np.ndarray:
    height, width = track.turn.size(*(view.size or track.size))
    picture = frame.to_ndarray(
        format="rgb24", height=height, width=width, interpolation=view.filter
    )
    return np.ascontiguousarray(track.turn(picture))
