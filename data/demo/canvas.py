"""Drawing at a multiple of the final resolution, in its pixels."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data.demo.looks import Colour

CENTRE_X: Final = 48.0
SCALE: Final = 4
"""Supersampling factor."""

Point = tuple[float, float]


class Canvas:
    """An image of `SCALE` times the final resolution, drawn on in final pixels.

    Args:
      image: RGB; drawn on in place.
      origin: final-pixel coordinates of the image's top left corner.
    """

    def __init__(self, image: Image.Image, origin: Point = (0, 0)) -> None:
        self.image = image
        self._origin = origin
        self._draw = ImageDraw.Draw(image)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self._draw.polygon(self._placed(points), fill=colour)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        placed = self._placed(points)
        self._draw.line(placed, fill=colour, width=max(round(width * SCALE), 1), joint="curve")

    def ellipse(self, centre: Point, radii: Point, colour: Colour) -> None:
        self.polygon(ellipse(centre, radii), colour)

    def blend(
        self, points: Sequence[Point], colour: Colour, opacity: float, blur: float = 0.0
    ) -> None:
        """Lays a translucent shape over the picture, its edge softened over `blur` pixels."""
        mask = self.mask(points, opacity)
        if blur:
            mask = mask.filter(ImageFilter.GaussianBlur(blur * SCALE))
        self.image.paste(colour, mask=mask)

    def mask(self, points: Sequence[Point], opacity: float = 1.0) -> Image.Image:
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(self._placed(points), fill=round(255 * opacity))
        return mask

    def _placed(self, points: Sequence[Point]) -> list[Point]:
        x0, y0 = self._origin
        return [((x - x0) * SCALE, (y - y0) * SCALE) for x, y in points]


def scaled_box(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (SCALE * edge for edge in box)
    return x0, y0, x1, y1


def reduced(image: Image.Image) -> np.ndarray:
    return np.asarray(image.reduce(SCALE))


def paste(picture: np.ndarray, box: tuple[int, int, int, int], patch: np.ndarray) -> None:
    x0, y0, x1, y1 = box
    picture[y0:y1, x0:x1] = patch


def shade(colour: Colour, factor: float) -> Colour:
    """Darker for factors under 1, towards white above it (2 is white)."""
    if factor <= 1:
        red, green, blue = (round(channel * factor) for channel in colour)
    else:
        red, green, blue = (round(channel + (255 - channel) * (factor - 1)) for channel in colour)
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour, the rest of the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def ellipse(centre: Point, radii: Point, start: float = 0.0, stop: float = 1.0) -> list[Point]:
    """Points of an ellipse from `start` to `stop` turns, clockwise from the right."""
    angles = np.linspace(2 * math.pi * start, 2 * math.pi * stop, 48)
    return [
        (centre[0] + radii[0] * math.cos(angle), centre[1] + radii[1] * math.sin(angle))
        for angle in angles
    ]


def mirrored(points: Sequence[Point]) -> list[Point]:
    return [(2 * CENTRE_X - x, y) for x, y in points]


def curve(points: Sequence[Point], num_points: int = 60) -> list[Point]:
    """A smooth (Catmull-Rom) curve through the points."""
    control = np.array([points[0], *points, points[-1]], dtype=float)
    curve = []
    for p0, p1, p2, p3 in zip(control, control[1:], control[2:], control[3:], strict=False):
        for u in np.linspace(0, 1, max(num_points // (len(points) - 1), 2)):
            x, y = 0.5 * (
                2 * p1
                + (p2 - p0) * u
                + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2
                + (3 * p1 - p0 - 3 * p2 + p3) * u**3
            )
            curve.append((float(x), float(y)))
    return curve
