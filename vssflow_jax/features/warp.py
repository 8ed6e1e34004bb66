"""Parts of pictures, turned and at another size, by a similarity of the plane.

Points are complex numbers x + iy, in pixels, whose centres have whole coordinates.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.ndimage


class Similarity(NamedTuple):
    """z -> `turn` z + `shift`: a turn with a change of size, and a shift."""

    turn: complex
    shift: complex

    @classmethod
    def between(cls, start: np.ndarray, end: np.ndarray) -> "Similarity":
        """The one that brings points [n] nearest to others [n] (Umeyama 1991, without mirrors)."""
        centred, target = start - start.mean(), end - end.mean()
        turn = complex(np.vdot(centred, target) / np.vdot(centred, centred))
        return cls(turn, complex(end.mean() - turn * start.mean()))

    @property
    def inverse(self) -> "Similarity":
        return Similarity(1 / self.turn, -self.shift / self.turn)

    def __call__(self, points: Any) -> Any:
        """Where points come to, or one of them."""
        return self.turn * points + self.shift


def sample(picture: np.ndarray, to_source: Similarity, height: int, width: int) -> np.ndarray:
    """A picture [h, w] seen through a similarity, bilinear, and 0 beyond its borders.

    Args:
      picture: what is looked at.
      to_source: from the pixels of the result to those of the picture.
      height, width: size of the result.

    Returns:
      float32 [height, width].
    """
    cos, sin = to_source.turn.real, to_source.turn.imag
    return scipy.ndimage.affine_transform(
        picture.astype(np.float32),
        [[cos, sin], [-sin, cos]],  # rows first
        offset=(to_source.shift.imag, to_source.shift.real),
        output_shape=(height, width),
        order=1,
        mode="grid-constant",
    )
