"""Painting in a unit frame: places, scales, tints, and the motions that painters share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ImageDraw

from data.demo.foley import Hit

MARGIN = 2  # of the unit frame, on each side, which no painter enters

# Swing of a striker: it falls ever faster onto the contact and rises from it ever slower.
FALL_SEC = 0.17
RISE_SEC = 0.11
WEAKEST_REACH, FULL_REACH = 0.6, 1.0  # share of the full swing before a hit of strength 0, 1
IDLE_REACH = 0.8  # after the last hit
GLOW_SEC = 0.06  # decay of everything that flashes, bends or shakes on contact
REST = 10.0  # seconds since or until an event that does not exist
Colour = tuple[float, float, float]  # red, green, blue from 0 to 1
Point = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """How one clip's picture differs from the unit frame.

    Attributes:
        size: factor on all lengths, at most 1.
        shift: where the upper-left corner of the shrunken frame lies, in unit pixels.
        tint: factors on red, green and blue.
    """

    size: float
    shift: Point
    tint: Colour


class Brush:
    """Paints in the unit frame: places, scales and tints what one clip draws."""

    def __init__(
        self, draw: ImageDraw.ImageDraw, origin: tuple[float, float], scale: float, look: Look
    ) -> None:
        self._draw = draw
        self._scale = scale * look.size
        self._x0 = origin[0] + scale * look.shift[0]
        self._y0 = origin[1] + scale * look.shift[1]
        self._tint = look.tint

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fills a polygon."""
        self._draw.polygon(self._place(points), fill=self._ink(colour))

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """Draws an open line of `width` unit pixels."""
        self._draw.line(self._place(points), fill=self._ink(colour), width=self._stroke(width))

    def ellipse(
        self, centre: Point, radius_x: float, radius_y: float, colour: Colour, width: float = 0.0
    ) -> None:
        """Fills an ellipse or, with a `width`, draws its outline inside the radii."""
        x, y = centre
        corners = ((x - radius_x, y - radius_y), (x + radius_x, y + radius_y))
        ink = self._ink(colour)
        if width:
            self._draw.ellipse(self._place(corners), outline=ink, width=self._stroke(width))
        else:
            self._draw.ellipse(self._place(corners), fill=ink)

    def _place(self, points: Sequence[Point]) -> list[Point]:
        return [(self._x0 + self._scale * x, self._y0 + self._scale * y) for x, y in points]

    def _stroke(self, width: float) -> int:
        return max(1, round(self._scale * width))

    def _ink(self, colour: Colour) -> tuple[int, int, int]:
        red, green, blue = (
            min(255, max(0, round(255 * part * tint)))
            for part, tint in zip(colour, self._tint, strict=True)
        )
        return red, green, blue


def glow(hits: Sequence[Hit], time_sec: float) -> float:
    """What flashes on contact: the latest hit's strength, decaying since; 0 before the first."""
    elapsed_sec, strength = _since_latest(hits, time_sec)
    return strength * math.exp(-elapsed_sec / GLOW_SEC)


def lift(hits: Sequence[Hit], time_sec: float) -> float:
    """Height of a striker over its target, 0 to 1: 0 in contact, with a sharp reversal of speed."""
    risen_sec, fall_left_sec, reach = REST, REST, IDLE_REACH
    for hit in hits:
        if time_sec < hit.time_sec:
            fall_left_sec = hit.time_sec - time_sec
            reach = WEAKEST_REACH + (FULL_REACH - WEAKEST_REACH) * hit.strength
            break
        risen_sec = max(0.0, time_sec - hit.time_sec - hit.length_sec)
    fallen = 1 - min(1.0, fall_left_sec / FALL_SEC)  # in time; the way grows with its square
    return reach * (1 - math.exp(-risen_sec / RISE_SEC)) * (1 - fallen**2)


def _since_latest(hits: Sequence[Hit], time_sec: float) -> tuple[float, float]:
    """Seconds since the latest hit and its strength; (REST, 0) before the first."""
    past = [hit for hit in hits if hit.time_sec <= time_sec]
    return (time_sec - past[-1].time_sec, past[-1].strength) if past else (REST, 0.0)


def fade(colour: Colour, amount: float, towards: Colour = (0.0, 0.0, 0.0)) -> Colour:
    """`towards` at amount 0, `colour` at amount 1 and above."""
    share = min(1.0, max(0.0, amount))
    red, green, blue = (
        there + share * (here - there) for here, there in zip(colour, towards, strict=True)
    )
    return red, green, blue


def turn(points: Sequence[Point], pivot: Point, angle: float) -> list[Point]:
    """Points turned clockwise about `pivot` by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return [
        (
            pivot[0] + cos * (x - pivot[0]) - sin * (y - pivot[1]),
            pivot[1] + sin * (x - pivot[0]) + cos * (y - pivot[1]),
        )
        for x, y in points
    ]


def rays(
    brush: Brush,
    centre: Point,
    angles_deg: Sequence[float],
    reach: tuple[float, float],
    colour: Colour,
    width: float,
) -> None:
    """Short lines away from `centre`, between the two radii in `reach`; 90 degrees points up."""
    for angle_deg in angles_deg:
        x, y = math.cos(math.radians(angle_deg)), -math.sin(math.radians(angle_deg))
        ends = [(centre[0] + radius * x, centre[1] + radius * y) for radius in reach]
        brush.line(ends, colour, width)
