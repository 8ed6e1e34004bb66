"""Drawn scenes of sounding events, in step with their sound.

A scene is one kind of event (a hammer on an anvil, a bouncing ball, ...) that happens a few times,
at random moments. `make_scene` decides everything that varies from clip to clip; afterwards a scene
is a pure function of time: `draw` paints it at any moment, `sound` gives its track. What one hears
can be seen: a smaller object sounds higher, a paler one brighter, and a harder hit is louder,
flashes more and swings from further away.

All drawing happens in a unit frame of 96x128 with y pointing down. Each kind keeps inside a margin
of that frame, and a clip shrinks the frame and moves it so that all but the margin stays inside the
area: a scene never paints outside.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from data.demo import foley
from data.demo.foley import Hit, Timbre
from vssflow_jax.utils.errors import UserError

WIDTH, HEIGHT = 96, 128
MARGIN = 2  # of the unit frame, on each side, which no painter enters

FIRST_EVENT_SEC = 0.15
LAST_EVENT_BEFORE_END_SEC = 0.25
TIME_GRID_SEC = 0.001  # event times are multiples of this: a whole number of samples at 16 kHz
MIN_EVENTS, MAX_EVENTS = 2, 5
STRIKE_GAP_SEC = 0.35
STROKE_SEC = (0.25, 0.40)
STROKE_PAUSE_SEC = 0.28  # from the end of one stroke to the start of the next
MIN_DURATION_SEC = 1.5

# Ranges of what varies from clip to clip, or from event to event.
SIZE = (0.8, 1.0)
DETUNING = (0.95, 1.05)  # of the pitch that follows from the size
LOUDNESS = (0.45, 0.9)
STRIKE_STRENGTH = (0.6, 1.0)
STROKE_STRENGTH = (0.7, 1.0)
MEAN_SHADE = 0.92  # brightness of the picture of a scene of mean paleness
SHADE_BY_PALENESS = 0.08
BRIGHTNESS_BY_PALENESS = 0.25
COLOUR_CAST = 0.06

# Swing of a striker: it falls ever faster onto the contact and rises from it ever slower.
FALL_SEC = 0.17
RISE_SEC = 0.11
WEAKEST_REACH, FULL_REACH = 0.6, 1.0  # share of the full swing before a hit of strength 0, 1
IDLE_REACH = 0.8  # after the last hit
GLOW_SEC = 0.06  # decay of everything that flashes, bends or shakes on contact
REST = 10.0  # seconds since or until an event that does not exist

BALL_GRAVITY = 600.0  # unit pixels/s^2
BALL_FULL_SPEED = 290.0  # unit pixels/s at a contact of strength 1
BALL_RESTITUTION = (0.74, 0.86)
BALL_FIRST_STRENGTH = (0.85, 1.0)
BALL_MIN_GAP_SEC = 0.3
BALL_MIN_BOUNCES = 3
DROP_GRAVITY = 900.0  # unit pixels/s^2
DROP_FORMING_SEC = 0.2

Colour = tuple[float, float, float]  # red, green, blue from 0 to 1
Point = tuple[float, float]

SKIN: Colour = (0.95, 0.72, 0.55)
STEEL: Colour = (0.45, 0.52, 0.64)
DARK_STEEL: Colour = (0.27, 0.32, 0.42)
HANDLE: Colour = (0.62, 0.33, 0.12)
SPARK: Colour = (1.0, 0.72, 0.20)
OCHRE: Colour = (0.86, 0.62, 0.16)
PALE_OCHRE: Colour = (1.0, 0.84, 0.42)
DARK_OCHRE: Colour = (0.55, 0.36, 0.08)
RED: Colour = (0.80, 0.10, 0.12)
CREAM: Colour = (0.98, 0.92, 0.78)
GOLD: Colour = (0.95, 0.75, 0.25)
CYAN: Colour = (0.40, 0.92, 0.95)
DEEP_CYAN: Colour = (0.06, 0.28, 0.32)
SILVER: Colour = (0.82, 0.85, 0.90)
MAGENTA: Colour = (0.95, 0.20, 0.62)
PURPLE: Colour = (0.38, 0.20, 0.60)
GREEN: Colour = (0.25, 0.66, 0.28)
DARK_GREEN: Colour = (0.12, 0.40, 0.16)
GREY: Colour = (0.50, 0.50, 0.46)
BLUE: Colour = (0.12, 0.28, 0.85)
DARK_BLUE: Colour = (0.07, 0.16, 0.52)
WATER: Colour = (0.35, 0.65, 1.0)
YELLOW: Colour = (0.98, 0.88, 0.15)
WHITE: Colour = (1.0, 1.0, 1.0)


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


@dataclass(frozen=True)
class Scene:
    """One foley scene: what it is, when it sounds, and how it looks and sounds.

    Attributes:
        kind: one of KINDS.
        duration_sec: length of picture and sound.
        hits: the events, in order of time.
        look: variation of the picture.
        timbre: variation of the sound.
        loudness: peak of the sound, in (0, 1].
        noise_seed: of the noise in the sound, so that each call of `sound` gives the same samples.
    """

    kind: str
    duration_sec: float
    hits: tuple[Hit, ...]
    look: Look
    timbre: Timbre
    loudness: float
    noise_seed: int

    @property
    def event_times_sec(self) -> list[float]:
        """When the contacts happen, in ascending order, in seconds."""
        return [hit.time_sec for hit in self.hits]

    def sound(self, sampling_rate: int) -> NDArray[np.float32]:
        """The sound track, exactly silent before the first event.

        Args:
          sampling_rate: samples per second; at 16 kHz every event falls on a sample.

        Returns:
          float32 [duration_sec * sampling_rate], peak at most 1.
        """
        return foley.synthesise(
            self.kind,
            self.hits,
            self.timbre,
            self.loudness,
            round(self.duration_sec * sampling_rate),
            sampling_rate,
            np.random.default_rng(self.noise_seed),
        )

    def draw(
        self, draw: ImageDraw.ImageDraw, time_sec: float, origin: tuple[float, float], scale: float
    ) -> None:
        """Paint the scene onto a black area of 96x128 unit pixels.

        Args:
          draw: of an RGB image.
          time_sec: moment to show.
          origin: upper-left corner (x, y) of the area, in pixels of the image.
          scale: pixels of the image to a unit pixel; more than 1 to supersample.
        """
        brush = Brush(draw, origin, scale, self.look)
        PAINTERS[self.kind](brush, self.hits, time_sec, self.duration_sec)


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


# -------------------------------------------------------------------------------------------------
# Motion
# -------------------------------------------------------------------------------------------------


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


def _fade(colour: Colour, amount: float, towards: Colour = (0.0, 0.0, 0.0)) -> Colour:
    """`towards` at amount 0, `colour` at amount 1 and above."""
    share = min(1.0, max(0.0, amount))
    red, green, blue = (
        there + share * (here - there) for here, there in zip(colour, towards, strict=True)
    )
    return red, green, blue


def _turn(points: Sequence[Point], pivot: Point, angle: float) -> list[Point]:
    """Points turned clockwise about `pivot` by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return [
        (
            pivot[0] + cos * (x - pivot[0]) - sin * (y - pivot[1]),
            pivot[1] + sin * (x - pivot[0]) + cos * (y - pivot[1]),
        )
        for x, y in points
    ]


def _rays(
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


# -------------------------------------------------------------------------------------------------
# Painters: one a kind. Flashes on the background come first: they fade to black, and over an object
# they would darken it.
# -------------------------------------------------------------------------------------------------

Painter = Callable[[Brush, Sequence[Hit], float, float], None]

VISIBLE_GLOW = 0.04  # below this a flash is not painted at all


def _paint_anvil(brush: Brush, hits: Sequence[Hit], time_sec: float, _: float) -> None:
    """A steel hammer strikes sparks from an anvil."""
    flash = glow(hits, time_sec)
    contact = (46.0, 74.0)
    if flash > VISIBLE_GLOW:
        elapsed_sec, _strength = _since_latest(hits, time_sec)
        inner = 6 + 110 * elapsed_sec
        sparks_deg = (12, 40, 70, 100, 130, 155, 176)
        _rays(brush, contact, sparks_deg, (inner, inner + 14), _fade(SPARK, 1.6 * flash), 2.5)
    body = [(6, 77), (22, 74), (76, 74), (76, 85), (62, 89), (57, 100), (70, 110), (70, 116)]
    body += [(22, 116), (22, 110), (35, 100), (31, 89), (20, 85)]
    brush.polygon(body, DARK_STEEL)
    brush.polygon([(6, 77), (22, 74), (76, 74), (76, 79), (20, 79)], _fade(SPARK, flash, STEEL))
    pivot = (86.0, 66.0)
    angle = math.radians(55) * lift(hits, time_sec)
    brush.line(_turn([pivot, (46, 64)], pivot, angle), HANDLE, 4.5)
    brush.polygon(_turn([(39, 54), (53, 54), (53, 74), (39, 74)], pivot, angle), STEEL)
    brush.polygon(_turn([(39, 68), (53, 68), (53, 74), (39, 74)], pivot, angle), SILVER)
    brush.ellipse(pivot, 6, 6, SKIN)


def _paint_woodblock(brush: Brush, hits: Sequence[Hit], time_sec: float, _: float) -> None:
    """A round wooden mallet comes straight down on a block of wood, which gives way a little."""
    flash = glow(hits, time_sec)
    give = 4 * flash
    if flash > VISIBLE_GLOW:
        elapsed_sec, _strength = _since_latest(hits, time_sec)
        reach = (16 + 60 * elapsed_sec, 26 + 60 * elapsed_sec)
        _rays(brush, (47, 76), (5, 175, 28, 152), reach, _fade(PALE_OCHRE, 1.6 * flash), 3)
    front, top, bottom = 88 + give, 77 + give, 116.0
    brush.polygon([(10, front), (76, front), (76, bottom), (10, bottom)], OCHRE)
    brush.polygon([(76, front), (86, top), (86, 106), (76, bottom)], DARK_OCHRE)
    lid = _fade(WHITE, 0.8 * flash, PALE_OCHRE)
    brush.polygon([(10, front), (20, top), (86, top), (76, front)], lid)
    brush.line([(18, 103), (68, 103)], DARK_OCHRE, 4)
    height = 40 * lift(hits, time_sec) - give
    brush.line([(47, 68 - height), (74, 47 - height)], HANDLE, 4)
    brush.ellipse((47, 70 - height), 12, 10, CREAM)
    brush.ellipse((44, 67 - height), 4, 3, WHITE)


def _paint_drum(brush: Brush, hits: Sequence[Hit], time_sec: float, _: float) -> None:
    """Two sticks take turns on a red drum, whose skin flashes and ripples."""
    flash = glow(hits, time_sec)
    brush.ellipse((48, 110), 32, 9, RED)
    brush.polygon([(16, 84), (80, 84), (80, 110), (16, 110)], RED)
    zigzag = [(16, 90), (24, 113), (36, 95), (48, 117), (60, 95), (72, 113), (80, 90)]
    brush.line(zigzag, GOLD, 2)
    brush.ellipse((48, 84), 32, 10, GOLD)
    brush.ellipse((48, 84), 30, 8.5, _fade(WHITE, flash, _fade(CREAM, 0.75)))
    if flash > VISIBLE_GLOW:
        elapsed_sec, _strength = _since_latest(hits, time_sec)
        spread = min(1.0, 0.3 + 5 * elapsed_sec)
        brush.ellipse((48, 84), 28 * spread, 7.5 * spread, _fade(RED, flash, CREAM), 2)
    for side, mirror in enumerate((1, -1)):
        pivot = (48 + 38.0 * mirror, 58.0)
        angle = mirror * math.radians(75) * lift(hits[side::2], time_sec)
        stick = _turn([pivot, (48 + 9 * mirror, 84)], pivot, angle)
        brush.line(stick, OCHRE, 4)
        brush.ellipse(stick[1], 4, 4, CREAM)
        brush.ellipse(pivot, 4.5, 4.5, SKIN)


def _paint_glass(brush: Brush, hits: Sequence[Hit], time_sec: float, _: float) -> None:
    """A silver spoon swings against a wine glass, which rings visibly."""
    flash = glow(hits, time_sec)
    elapsed_sec, _strength = _since_latest(hits, time_sec)
    sway = 3 * flash * math.sin(2 * math.pi * 11 * elapsed_sec)
    if flash > VISIBLE_GLOW:
        radius = 20 + 35 * elapsed_sec
        rings_deg = (115, 145, 180, 215, 245)
        _rays(brush, (37, 68), rings_deg, (radius, radius + 7), _fade(CYAN, 1.6 * flash), 2.5)
    bowl = [(22, 48), (52, 48), (54, 64), (50, 76), (42, 84), (32, 84), (24, 76), (20, 64)]
    wine = [(20.5, 62), (53.5, 62), (50, 76), (42, 84), (32, 84), (24, 76)]
    brush.polygon([(x - sway, y) for x, y in bowl], _fade(WHITE, flash, DEEP_CYAN))
    brush.polygon([(x - sway, y) for x, y in wine], _fade(WHITE, flash, _fade(CYAN, 0.6)))
    brush.line([(x - sway, y) for x, y in [*bowl, bowl[0]]], CYAN, 2)
    brush.line([(37 - sway / 2, 84), (37, 112)], CYAN, 3.5)
    brush.ellipse((37, 114), 16, 4, CYAN)
    pivot = (65.0, 16.0)
    angle = -math.radians(34) * lift(hits, time_sec)
    handle = _turn([pivot, (59, 56)], pivot, angle)
    bowl_of_spoon = _turn(
        [(57, 53), (63, 57), (62, 68), (57, 71), (53, 66), (53, 57)], pivot, angle
    )
    brush.line(handle, SILVER, 3)
    brush.polygon(bowl_of_spoon, SILVER)
    brush.ellipse(pivot, 6, 6, SKIN)


def _paint_ball(brush: Brush, hits: Sequence[Hit], time_sec: float, duration_sec: float) -> None:
    """A hand drops a rubber ball, which bounces ever lower until the hand catches it again."""
    radius, floor = 11.0, 112.0
    height, hand_height = _ball_heights(hits, time_sec)
    x = 34 + 28 * time_sec / duration_sec
    flash = glow(hits, time_sec)
    if flash > VISIBLE_GLOW:
        elapsed_sec, _strength = _since_latest(hits, time_sec)
        reach = (15 + 60 * elapsed_sec, 22 + 60 * elapsed_sec)
        _rays(brush, (x, floor - 3), (12, 35, 145, 168), reach, _fade(MAGENTA, 1.6 * flash), 2.5)
    brush.polygon([(4, 112), (92, 112), (92, 120), (4, 120)], _fade(WHITE, 0.5 * flash, PURPLE))
    squash = 0.4 * flash
    wide, tall = radius * (1 + squash), radius * (1 - squash)
    y = floor - height - tall
    brush.ellipse((x, y), wide, tall, MAGENTA)
    brush.ellipse((x, y), wide * 0.4, tall, YELLOW)
    brush.ellipse((x - 0.45 * wide, y - 0.45 * tall), 2.5, 2.5, WHITE)
    palm = floor - hand_height - 2 * radius
    brush.line([(x + 6, palm - 3), (84, palm - 8)], SKIN, 6)
    brush.ellipse((x, palm - 3), 11, 4.5, SKIN)


def _ball_heights(hits: Sequence[Hit], time_sec: float) -> tuple[float, float]:
    """Heights over the floor of the ball's lowest point and of the hand, in unit pixels."""
    restitution = hits[1].strength / hits[0].strength
    impact_speeds = [BALL_FULL_SPEED * hit.strength for hit in hits]
    drop_height = impact_speeds[0] ** 2 / (2 * BALL_GRAVITY)
    catch_height = (impact_speeds[-1] * restitution) ** 2 / (2 * BALL_GRAVITY)
    catch_sec = hits[-1].time_sec + impact_speeds[-1] * restitution / BALL_GRAVITY
    lowered = (time_sec - hits[0].time_sec) / (catch_sec - hits[0].time_sec)
    hand_height = drop_height + min(1.0, max(0.0, lowered)) * (catch_height - drop_height)

    if time_sec >= catch_sec:
        return catch_height, hand_height
    latest = [index for index, hit in enumerate(hits) if hit.time_sec <= time_sec]
    if latest:
        elapsed_sec = time_sec - hits[latest[-1]].time_sec
        up_speed = impact_speeds[latest[-1]] * restitution
        return max(0.0, elapsed_sec * (up_speed - BALL_GRAVITY * elapsed_sec / 2)), hand_height
    drop_sec = hits[0].time_sec - impact_speeds[0] / BALL_GRAVITY
    falling_sec = max(0.0, time_sec - drop_sec)
    return drop_height - BALL_GRAVITY * falling_sec**2 / 2, hand_height


def _paint_scrape(brush: Brush, hits: Sequence[Hit], time_sec: float, _: float) -> None:
    """Two hands shove a crate over the floor, from the left and from the right by turns."""
    left_end, right_end, crate = 19.0, 47.0, 30.0
    started = sum(hit.time_sec <= time_sec for hit in hits)
    elapsed_sec, _strength = _since_latest(hits, time_sec)
    stroke_sec = hits[max(0, started - 1)].length_sec
    speed = max(0.0, 1 - elapsed_sec / stroke_sec)  # as in the sound: a jerk, then braked evenly
    left = speed**2  # share of the way that is left to go
    rightwards = started % 2 == 1
    x = left_end + (right_end - left_end) * (1 - left if rightwards else left)
    brush.polygon([(4, 108), (92, 108), (92, 116), (4, 116)], _fade(GREY, 0.75))
    if speed > 0:
        trail = x if rightwards else x + crate
        away = -1 if rightwards else 1
        for size, distance, rise in ((7, 2, 4), (5, 9, 9), (4, 6, 16)):
            puff = (trail + away * (distance - 4), 107 - size - rise * (1 - left))
            brush.ellipse(puff, size * speed, size * speed, _fade(CREAM, 0.4 + 0.6 * speed))
        sparks = [(x + 2, 109), (x + crate - 2, 109)]
        brush.line(sparks, _fade(WHITE, speed, GREY), 4)
    brush.polygon([(x, 70), (x + crate, 70), (x + crate, 108), (x, 108)], GREEN)
    for top in (80, 93):
        brush.line([(x, top), (x + crate, top)], DARK_GREEN, 2.5)
    for edge in (x + 2, x + crate - 2):
        brush.line([(edge, 70), (edge, 108)], DARK_GREEN, 4)
    for side, (edge, away) in enumerate(((x, -1), (x + crate, 1))):
        height = 34 * lift(hits[side::2], time_sec)
        palm = (edge + 5 * away, 86 - height)
        brush.line([palm, (palm[0] + 6 * away, palm[1] - 24)], RED, 7)
        brush.ellipse(palm, 5, 8, SKIN)


def _paint_drip(brush: Brush, hits: Sequence[Hit], time_sec: float, _: float) -> None:
    """Drops form under a tap, fall, and splash into a full bucket."""
    spout, surface = 26.0, 82.0
    flash = glow(hits, time_sec)
    elapsed_sec, strength = _since_latest(hits, time_sec)
    brush.polygon([(40, 8), (90, 8), (90, 17), (54, 17), (54, 24), (42, 24), (42, 17)], SILVER)
    brush.ellipse((66, 7), 8, 3, RED)
    brush.polygon([(18, 82), (78, 82), (70, 118), (26, 118)], BLUE)
    brush.polygon([(64, 82), (78, 82), (70, 118), (60, 118)], DARK_BLUE)
    brush.ellipse((48, surface), 30, 9, SILVER)
    brush.ellipse((48, surface), 28, 7.5, _fade(WHITE, flash, _fade(WATER, 0.75)))
    if flash > VISIBLE_GLOW:
        spread = min(1.0, 0.25 + 4.5 * elapsed_sec)
        ripple = _fade(DARK_BLUE, 0.5 + flash, WATER)
        brush.ellipse((48, surface), 26 * spread, 7 * spread, ripple, 2)
        brush.ellipse((48, surface), 16 * spread, 4 * spread, WHITE, 1.5)
        for sideways in (-150, -80, 0, 80, 150):
            up_speed = 340 * strength - abs(sideways)
            rise = up_speed * elapsed_sec - DROP_GRAVITY * elapsed_sec**2
            droplet = (48 + sideways * elapsed_sec, surface - 4 - max(0.0, rise))
            size = 2 + 3 * flash
            brush.ellipse(droplet, size, size, _fade(WHITE, flash, WATER))
    fall_sec = math.sqrt(2 * (surface - spout) / DROP_GRAVITY)
    for hit in hits:
        falling_sec = time_sec - (hit.time_sec - fall_sec)
        if time_sec < hit.time_sec and falling_sec > -DROP_FORMING_SEC:
            size = (4 + 2 * hit.strength) * min(1.0, 1 + falling_sec / DROP_FORMING_SEC)
            y = spout + DROP_GRAVITY * max(0.0, falling_sec) ** 2 / 2
            brush.polygon([(48 - size, y), (48 + size, y), (48, y - 2.2 * size)], WATER)
            brush.ellipse((48, y), size, size, WATER)


def _paint_clap(brush: Brush, hits: Sequence[Hit], time_sec: float, _: float) -> None:
    """Two hands in yellow sleeves clap."""
    flash = glow(hits, time_sec)
    if flash > VISIBLE_GLOW:
        elapsed_sec, _strength = _since_latest(hits, time_sec)
        inner = 24 + 60 * elapsed_sec
        burst_deg = (25, 57, 90, 123, 155)
        _rays(brush, (48, 58), burst_deg, (inner, inner + 12), _fade(YELLOW, 1.6 * flash), 3)
    gap = 24 * lift(hits, time_sec)
    palm_colour = _fade(WHITE, 0.7 * flash, SKIN)
    for mirror in (-1, 1):
        x = 48 + mirror * (gap + 6)
        brush.polygon(
            [(x - 7, 84), (x + 7, 84), (48 + 30 * mirror + 10, 120), (48 + 30 * mirror - 10, 120)],
            YELLOW,
        )
        brush.line([(x - 8, 84), (x + 8, 84)], OCHRE, 4)
        brush.ellipse((x, 66), 6, 17, palm_colour)
        brush.ellipse((x + 1.5 * mirror, 46), 3.5, 12, palm_colour)
        brush.line([(x + 3 * mirror, 70), (x + 9 * mirror, 58)], SKIN, 4)


PAINTERS: dict[str, Painter] = {
    "anvil": _paint_anvil,
    "woodblock": _paint_woodblock,
    "drum": _paint_drum,
    "glass": _paint_glass,
    "ball": _paint_ball,
    "scrape": _paint_scrape,
    "drip": _paint_drip,
    "clap": _paint_clap,
}
KINDS: tuple[str, ...] = tuple(PAINTERS)


# -------------------------------------------------------------------------------------------------
# What varies from clip to clip
# -------------------------------------------------------------------------------------------------


def make_scene(kind: str, rng: np.random.Generator, duration_sec: float) -> Scene:
    """A random scene: 2 to 5 events between 0.15 s and 0.25 s before the end.

    Strikes are at least 0.35 s apart, bounces 0.3 s, and strokes of a scrape start at least 0.53 s
    apart.

    Args:
      kind: one of KINDS.
      rng: source of everything that varies.
      duration_sec: length of the clip, at least 1.5 s.

    Raises:
      UserError: unknown kind, or too short a duration.
    """
    if kind not in KINDS:
        raise UserError(f"foley scene: unknown kind {kind!r}; use one of {', '.join(KINDS)}")
    if duration_sec < MIN_DURATION_SEC:
        raise UserError(
            f"foley scene: {duration_sec} s is too short; use at least {MIN_DURATION_SEC} s"
        )
    if kind == "ball":
        hits = _bounces(rng, duration_sec)
    elif kind == foley.SCRAPE:
        hits = _strokes(rng, duration_sec)
    else:
        hits = _strikes(rng, duration_sec)
    size = rng.uniform(*SIZE)
    paleness = rng.uniform(-1.0, 1.0)
    return Scene(
        kind=kind,
        duration_sec=duration_sec,
        hits=hits,
        look=Look(
            size=size,
            shift=(
                rng.uniform(-MARGIN * size, WIDTH - (WIDTH - MARGIN) * size),
                rng.uniform(-MARGIN * size, HEIGHT - (HEIGHT - MARGIN) * size),
            ),
            tint=_tint(rng, paleness),
        ),
        timbre=Timbre(
            pitch=rng.uniform(*DETUNING) / size,
            brightness=1 + BRIGHTNESS_BY_PALENESS * paleness,
        ),
        loudness=rng.uniform(*LOUDNESS),
        noise_seed=int(rng.integers(2**32)),
    )


def _tint(rng: np.random.Generator, paleness: float) -> Colour:
    """Factors on red, green and blue: a common shade and a slight cast."""
    shade = MEAN_SHADE + SHADE_BY_PALENESS * paleness
    red, green, blue = shade + rng.uniform(-COLOUR_CAST, COLOUR_CAST, size=3)
    return float(red), float(green), float(blue)


def _strikes(rng: np.random.Generator, duration_sec: float) -> tuple[Hit, ...]:
    """Impacts at random times."""
    times_sec = _spread_times(rng, duration_sec, STRIKE_GAP_SEC)
    return tuple(Hit(time_sec, rng.uniform(*STRIKE_STRENGTH)) for time_sec in times_sec)


def _strokes(rng: np.random.Generator, duration_sec: float) -> tuple[Hit, ...]:
    """Strokes of a scrape; the last may be cut by the end of the clip."""
    length_sec = rng.uniform(*STROKE_SEC)
    times_sec = _spread_times(rng, duration_sec, length_sec + STROKE_PAUSE_SEC)
    return tuple(Hit(time_sec, rng.uniform(*STROKE_STRENGTH), length_sec) for time_sec in times_sec)


def _bounces(rng: np.random.Generator, duration_sec: float) -> tuple[Hit, ...]:
    """Contacts of a ball: restitution shrinks the speed of each impact and the gap before it."""
    restitution = rng.uniform(*BALL_RESTITUTION)
    strength = rng.uniform(*BALL_FIRST_STRENGTH)
    end_sec = duration_sec - LAST_EVENT_BEFORE_END_SEC
    gaps_sec: list[float] = []
    strengths = [strength]
    while len(strengths) < MAX_EVENTS:
        strength *= restitution
        gap_sec = 2 * BALL_FULL_SPEED * strength / BALL_GRAVITY
        too_late = FIRST_EVENT_SEC + sum(gaps_sec) + gap_sec > end_sec
        if gap_sec < BALL_MIN_GAP_SEC or (too_late and len(strengths) >= MIN_EVENTS):
            break
        gaps_sec.append(gap_sec)
        strengths.append(strength)
    kept = int(rng.integers(min(BALL_MIN_BOUNCES, len(strengths)), len(strengths) + 1))
    first_sec = rng.uniform(FIRST_EVENT_SEC, end_sec - sum(gaps_sec[: kept - 1]))
    times_sec = first_sec + np.cumsum([0.0, *gaps_sec[: kept - 1]])
    return tuple(
        Hit(_on_grid(time_sec), strength)
        for time_sec, strength in zip(times_sec, strengths[:kept], strict=True)
    )


def _spread_times(rng: np.random.Generator, duration_sec: float, min_gap_sec: float) -> list[float]:
    """2 to 5 (at most as many as fit) sorted random times, at least `min_gap_sec` apart."""
    span_sec = duration_sec - LAST_EVENT_BEFORE_END_SEC - FIRST_EVENT_SEC
    most = min(MAX_EVENTS, 1 + int(span_sec / min_gap_sec))
    count = int(rng.integers(MIN_EVENTS, most + 1))
    slack_sec = span_sec - (count - 1) * min_gap_sec
    offsets_sec = np.sort(rng.uniform(0.0, slack_sec, size=count))
    return [
        _on_grid(FIRST_EVENT_SEC + index * min_gap_sec + offset_sec)
        for index, offset_sec in enumerate(offsets_sec)
    ]


def _on_grid(time_sec: float) -> float:
    """The nearest multiple of TIME_GRID_SEC, as a plain float that prints short."""
    return round(float(round(time_sec / TIME_GRID_SEC)) * TIME_GRID_SEC, 6)
