"""Mouths as AV-HuBERT reads them: cut out of a face that is turned and sized as all others are.

Source: NETWORKS section 2; the places of the points are those of the lip-reading literature.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.ndimage

from vssflow_jax.features.footage import Box, Landmarks, Mouth
from vssflow_jax.features.warp import Similarity, sample
from vssflow_jax.utils.errors import Rejected

SIDE = 88  # of a mouth
_FACE = 256  # side of the plane that faces are brought to
_PLACES = np.array(  # of the stable points on that plane
    [128.87 + 137.30j, 92.52 + 94.37j, 112.77 + 94.94j, 145.53 + 94.54j, 166.68 + 93.57j]
)
_SMOOTHED = 12  # pictures, of whose points the mean is taken: this one and those after it
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Keep = Callable[[np.ndarray, np.ndarray], np.ndarray]


def cutter(mouth: Mouth) -> Keep:
    """What cuts the mouths out of the pictures of one video, block by block in their order.

    Its result is uint8 [n, 88, 88], grey. Of a box it is the square around it, and of a video
    without a face the whole picture.
    """
    cuts = _cuts(mouth)

    def keep(pictures: np.ndarray, before: np.ndarray) -> np.ndarray:
        del before
        greys = pictures.astype(np.float32) @ _LUMA
        mouths = np.stack([next(cuts)(grey) for grey in greys])
        return np.rint(mouths).clip(0, 255).astype(np.uint8)

    return keep


def _cuts(mouth: Mouth) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """For each picture [h, w], what makes its mouth [88, 88]."""
    if not isinstance(mouth, Landmarks):
        boxes: Any = itertools.repeat(mouth) if isinstance(mouth[0], int) else iter(mouth)
        return (functools.partial(_around, box) for box in boxes)
    if mouth.points is None:
        return itertools.repeat(_shrunk)
    return (
        functools.partial(sample, to_source=place, height=SIDE, width=SIDE)
        for place in _places(mouth.points)
    )


def _around(box: Box, grey: np.ndarray) -> np.ndarray:
    """The square around a box of a picture."""
    left, top, right, bottom = box
    if not (0 <= left < right <= grey.shape[1] and 0 <= top < bottom <= grey.shape[0]):
        raise Rejected(f"bad mouth_box: {box} is not within the picture")
    size = max(right - left, bottom - top) / SIDE
    corner = complex(left + right, top + bottom) / 2 + complex(size - 1, size - 1) / 2
    return sample(grey, Similarity(size, corner - size * complex(SIDE, SIDE) / 2), SIDE, SIDE)


def _shrunk(grey: np.ndarray) -> np.ndarray:
    """All of a picture, bilinear."""
    steps = np.array(grey.shape) / SIDE
    return scipy.ndimage.affine_transform(
        grey, steps, offset=(steps - 1) / 2, output_shape=(SIDE, SIDE), order=1, mode="nearest"
    )


def _places(points: np.ndarray) -> Iterator[Similarity]:
    """From the pixels of each mouth to those of its picture, by points [n, 25]."""
    stable, lips = points[:, : len(_PLACES)], points[:, len(_PLACES) :]
    for number, of_picture in enumerate(lips):
        first = max(min(number, len(points) - _SMOOTHED), 0)
        smooth = stable[first : first + _SMOOTHED].mean(axis=0)
        to_plane = Similarity.between(smooth, _PLACES)
        middle = to_plane(of_picture.mean())
        x, y = np.clip(np.rint([middle.real, middle.imag]), SIDE // 2, _FACE - SIDE // 2)
        corner = complex(x, y) - complex(SIDE, SIDE) / 2
        back = to_plane.inverse
        yield Similarity(back.turn, back(corner))
