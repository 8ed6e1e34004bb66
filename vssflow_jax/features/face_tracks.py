"""Faces followed through a video, and cut out of it as SyncNet is shown them.

The way is that of SyncNet's authors (github.com/joonson/syncnet_python; NETWORKS section 9), with
three differences. Faces are found by MTCNN (`vssflow_jax.features.faces`), where they take S3FD. A
cut ends a track only where the faces before and after it do not overlap, for cuts are not looked
for. Smaller faces count (`SMALLEST`), and shorter tracks where the video is short (`least_seen`).

Letters: n pictures, m faces of a picture.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from vssflow_jax.features import faces
from vssflow_jax.media import Track, View, blocks

RATE = 25.0  # pictures a second
SIDE = 224  # of a face that is cut out
SMALLEST = 50.0
"""Pixels that a face has on average, in width or height. SyncNet's authors ask for 100. Faces of
GRID, whose pictures have 360 x 288 pixels, are about that size, and LRS2's pictures are 160 x 160:
much of such sets could have no score. A lower bound changes no score of a larger face."""

_OVERLAP = 0.5  # of a face with itself in the next picture: intersection over union
_GAP = 25  # pictures from one where the face is seen to the next
_LONG = 100  # pictures with the face that are enough in any video
_SMOOTHED = 13  # pictures, of whose squares the median is taken
_LEAST = _SMOOTHED // 2 + 1  # of fewer, the median is that of nothing
_BESIDE, _BELOW = 1.4, 1.8  # what is shown from the middle of a face on, by half its size
_GREY = 110  # beyond the picture


class FaceTrack(NamedTuple):
    """One face in pictures that follow one another.

    Attributes:
      first: number of the first picture.
      boxes: left, top, right and bottom in each picture, interpolated where it is not seen, [n, 4].
    """

    first: int
    boxes: np.ndarray


def find(track: Track, count: int) -> FaceTrack | None:
    """The face that is followed for longest; others do not count, whoever of them speaks.

    Args:
      track: track of the video; it is decoded once.
      count: pictures that are looked at, `RATE` a second.

    Returns:
      None if no face is seen for long enough (`least_seen`), or they are too small (`SMALLEST`).

    Raises:
      UserError: the video cannot be decoded, or the package that finds faces is not installed.
    """
    found = [
        np.reshape([face.box for face in faces.find(picture)], (-1, 4))
        for picture in _pictures(track, count)
    ]
    return max(follow(found), key=lambda one: len(one.boxes), default=None)


def least_seen(count: int) -> int:
    """In how many of so many pictures a face is to be seen: 100, or half of a shorter video."""
    return max(min(_LONG, count // 2), _LEAST)


def follow(found: Sequence[np.ndarray]) -> list[FaceTrack]:
    """The tracks that are long enough, and whose faces are large enough, by their beginnings.

    Args:
      found: boxes of the faces of each picture, [m, 4].
    """
    tracks: list[dict[int, np.ndarray]] = []  # number of a picture -> box
    for number, boxes in enumerate(found):
        left = list(boxes)
        for seen in tracks:
            last = next(reversed(seen))
            if left and number - last <= _GAP:
                overlaps = [_overlap(box, seen[last]) for box in left]
                best = int(np.argmax(overlaps))
                if overlaps[best] > _OVERLAP:
                    seen[number] = left.pop(best)
        tracks += [{number: box} for box in left]
    whole = (_whole(seen) for seen in tracks if len(seen) >= least_seen(len(found)))
    return [one for one in whole if _size(one.boxes) >= SMALLEST]


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (one, other)]
    return common / (sum(areas) - common)


def _whole(seen: Mapping[int, np.ndarray]) -> FaceTrack:
    known = [*seen]
    numbers = np.arange(known[0], known[-1] + 1)
    sides = np.stack([*seen.values()]).T
    boxes = np.stack([np.interp(numbers, known, side) for side in sides], axis=1)
    return FaceTrack(known[0], boxes)


def _size(boxes: np.ndarray) -> float:
    return float((boxes[:, 2:] - boxes[:, :2]).mean(axis=0).max())


# ------------------------------------------------------------------------------------- what is cut
def cut(track: Track, face: FaceTrack) -> np.ndarray:
    """A face in each picture of its track, uint8 [n, 224, 224, 3], blue first.

    Raises:
      UserError: the video cannot be decoded.
    """
    squares = smooth_squares(face.boxes)
    crops = np.empty((len(squares), SIDE, SIDE, 3), np.uint8)
    pictures = _pictures(track, face.first + len(squares))
    shown = itertools.islice(pictures, face.first, None)
    for crop, picture, (x, y, half) in zip(crops, shown, squares, strict=True):
        crop[:] = cut_out(picture, x, y, half)
    return crops


def smooth_squares(boxes: np.ndarray) -> np.ndarray:
    """Middle x, middle y and half the longer side of each box [n, 4], smoothed over time; [n, 3].

    As with SyncNet's authors the median takes zeros for what is beyond the ends: the first and the
    last square are the smallest of the seven that are there.
    """
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    squares = np.concatenate([middles, halves], axis=1)
    return scipy.ndimage.median_filter(squares, (_SMOOTHED, 1), mode="constant")


def cut_out(picture: np.ndarray, x: float, y: float, half: float) -> np.ndarray:
    """A face and what is around it, more of it below than above, uint8 [224, 224, 3], blue first.

    Args:
      picture: uint8 [h, w, 3], red first; beyond it all is grey.
      x, y: middle of the face.
      half: half of its size.
    """
    height, width = picture.shape[:2]
    rows = _between(y - half, y + _BELOW * half)
    columns = _between(x - _BESIDE * half, x + _BESIDE * half)
    part = picture[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    inside = np.logical_and.outer(_within(rows, height), _within(columns, width))
    part[~inside] = _GREY
    resized = _stretched(_stretched(part[..., ::-1].astype(np.float32), axis=0), axis=1)
    return np.rint(resized).astype(np.uint8)


def _between(start: float, end: float) -> np.ndarray:
    return np.arange(math.floor(start), math.floor(end))


def _within(numbers: np.ndarray, count: int) -> np.ndarray:
    return (numbers >= 0) & (numbers < count)


def _stretched(picture: np.ndarray, axis: int) -> np.ndarray:
    """A picture along an axis made `SIDE` long: each pixel is of the two nearest, no more."""
    last = picture.shape[axis] - 1
    places = ((np.arange(SIDE) + 0.5) * (last + 1) / SIDE - 0.5).clip(0, last)
    before = places.astype(int)
    share = (places - before).astype(np.float32).reshape(-1, *[1] * (picture.ndim - 1 - axis))
    one, other = (picture.take(at, axis) for at in (before, np.minimum(before + 1, last)))
    return one + share * (other - one)


def _pictures(track: Track, count: int) -> Iterator[np.ndarray]:
    """As many pictures of a video, uint8 [h, w, 3], one by one."""
    return (picture for _, block in blocks(track, {View(RATE): count}) for picture in block)
