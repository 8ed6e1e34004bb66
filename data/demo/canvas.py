"""Drawing at a multiple of the final resolution, for faces and scenes alike."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]
Colour = tuple[float, float, float]

_WHITE: Final = (255, 255, 255)
_CURVE_POINTS: Final = 60
_ELLIPSE_POINTS: Final = 48


class Canvas:
    """Draws on an image in units of its own.

    Args:
      image: RGB; drawn on in place.
      scale: pixels of the image to a unit.
      origin: where (0, 0) lies, in pixels of the image.
      tint: factors that bring colours to red, green and blue of at most 255.
    """

    def __init__(
        self,
        image: Image.Image,
        scale: float,
        origin: Point = (0, 0),
        tint: Colour = (1, 1, 1),
    ) -> None:
        self.image = image
        self._scale, self._origin, self._tint = scale, origin, tint
        self._draw = ImageDraw.Draw(image)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self._draw.polygon(self._placed(points), fill=self._ink(colour))

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        placed, ink = self._placed(points), self._ink(colour)
        self._draw.line(placed, fill=ink, width=self._stroke(width), joint="curve")

    def ellipse(
        self, centre: Point, radius_x: float, radius_y: float, colour: Colour, width: float = 0.0
    ) -> None:
        """Fills an ellipse or, with a `width`, draws its outline inside the radii."""
        x, y = centre
        box = self._placed([(x - radius_x, y - radius_y), (x + radius_x, y + radius_y)])
        if width:
            self._draw.ellipse(box, outline=self._ink(colour), width=self._stroke(width))
        else:
            self._draw.ellipse(box, fill=self._ink(colour))

    def blend(
        self, points: Sequence[Point], colour: Colour, opacity: float, blur: float = 0.0
    ) -> None:
        """Lays a translucent shape over the picture, its edge softened over `blur` units."""
        mask = self.mask(points, opacity)
        if blur:
            mask = mask.filter(ImageFilter.GaussianBlur(blur * self._scale))
        self.image.paste(self._ink(colour), mask=mask)

    def mask(self, points: Sequence[Point], opacity: float = 1.0) -> Image.Image:
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(self._placed(points), fill=round(255 * opacity))
        return mask

    @contextmanager
    def within(self, outline: Sequence[Point]) -> Iterator["Canvas"]:
        """A canvas of the picture; what is drawn on it is kept inside the outline."""
        inside = Canvas(self.image.copy(), self._scale, self._origin, self._tint)
        yield inside
        self.image.paste(inside.image, mask=self.mask(outline))

    def _placed(self, points: Sequence[Point]) -> list[Point]:
        x0, y0 = self._origin
        return [(x0 + self._scale * x, y0 + self._scale * y) for x, y in points]

    def _stroke(self, width: float) -> int:
        return max(1, round(self._scale * width))

    def _ink(self, colour: Colour) -> tuple[int, int, int]:
        red, green, blue = (
            min(255, max(0, round(part * factor)))
            for part, factor in zip(colour, self._tint, strict=True)
        )
        return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Darker for factors under 1, towards white above it (2 is white)."""
    if factor > 1:
        return mix(colour, _WHITE, factor - 1)
    red, green, blue = (round(channel * factor) for channel in colour)
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour, the rest of the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def ellipse(centre: Point, radii: Point) -> list[Point]:
    """Points of an ellipse, clockwise from the right."""
    return [
        (centre[0] + radii[0] * math.cos(angle), centre[1] + radii[1] * math.sin(angle))
        for angle in np.linspace(0, 2 * math.pi, _ELLIPSE_POINTS)
    ]


def curve(points: Sequence[Point]) -> list[Point]:
    """A smooth (Catmull-Rom) curve through the points."""
    control = np.array([points[0], *points, points[-1]], dtype=float)[:, None]
    p0, p1, p2, p3 = control[:-3], control[1:-2], control[2:-1], control[3:]
    u = np.linspace(0, 1, max(_CURVE_POINTS // len(p1), 2))[:, None]
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * u
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2
        + (3 * p1 - p0 - 3 * p2 + p3) * u**3
    )
    return [(x, y) for x, y in curve.reshape(-1, 2).tolist()]
