"""Pictures at the sizes that networks take, by Pillow, whose filters those networks were fed by.

In the processes that decode: a picture of a film is ten times as large as what is left of it.
"""

import numpy as np

from vssflow_jax.utils.optional import require

_EXTRA = "extract"


def stretch(pictures: np.ndarray, side: int) -> np.ndarray:
    """Pictures uint8 [n, h, w, 3] as squares, whatever their shape. [n, side, side, 3]."""
    return _bicubic(pictures, side, side)


def fill(pictures: np.ndarray, side: int, *, whole: bool = False) -> np.ndarray:
    """The middles of pictures uint8 [n, h, w, 3] whose shorter sides become `side` long.

    Sizes and places are rounded as torchvision rounds them. [n, side, side, 3]; with `whole` the
    longer sides stay as long as they become.
    """
    height, width = pictures.shape[1:3]
    shorter = min(height, width)
    high, wide = side * height // shorter, side * width // shorter
    resized = _bicubic(pictures, high, wide)
    if whole:
        return resized
    top, left = round((high - side) / 2), round((wide - side) / 2)
    return resized[:, top : top + side, left : left + side]


def _bicubic(pictures: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bicubic, of all pixels that a new one covers. [n, h, w, 3] -> [n, height, width, 3]."""
    image = require("PIL.Image", _EXTRA)
    resized = np.empty((len(pictures), height, width, 3), np.uint8)
    for row, picture in zip(resized, pictures, strict=True):
        row[:] = image.fromarray(picture).resize((width, height), image.Resampling.BICUBIC)
    return resized
