"""How scenes of events are painted: one painter for each kind.

Flashes on the background come first: they fade to black, and over an object they would darken it.
"""

import cmath
import math
from collections.abc import Callable, Sequence

from data.demo.canvas import Canvas, Colour, Point
from data.demo.foley import Hit

WIDTH, HEIGHT = 96, 128

BALL_GRAVITY = 600.0  # unit pixels/s^2
BALL_FULL_SPEED = 290.0  # unit pixels/s at a contact of strength 1
DROP_GRAVITY = 900.0  # unit pixels/s^2
DROP_FORMING_SEC = 0.2

# Swing of a striker: it falls ever faster onto the contact and rises from it ever slower.
FALL_SEC = 0.17
RISE_SEC = 0.11
WEAKEST_REACH, FULL_REACH = 0.6, 1.0  # share of the full swing before a hit of strength 0, 1
IDLE_REACH = 0.8  # after the last hit
GLOW_SEC = 0.06  # decay of everything that flashes, bends or shakes on contact
VISIBLE_GLOW = 0.04  # below this a flash is not painted at all
REST = 10.0  # seconds since or until an event that does not exist

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
BLACK: Colour = (0.0, 0.0, 0.0)


class Moment:
    """A scene at one time.

    Attributes:
      hits: its events, in order of time.
      time_sec: the time.
      share: of the scene's duration, until then.
      num_past: events until then.
      elapsed_sec: since the latest of them.
      strength: of that one; 0 before the first.
      flash: what flashes on contact: the strength, decaying since.
    """

    def __init__(self, hits: Sequence[Hit], time_sec: float, duration_sec: float) -> None:
        self.hits, self.time_sec = hits, time_sec
        self.share = time_sec / duration_sec
        self.num_past = sum(hit.time_sec <= time_sec for hit in hits)
        latest = hits[self.num_past - 1] if self.num_past else Hit(time_sec - REST, 0.0)
        self.elapsed_sec, self.strength = time_sec - latest.time_sec, latest.strength
        self.flash = self.strength * math.exp(-self.elapsed_sec / GLOW_SEC)

    def lift(self, first: int = 0, step: int = 1) -> float:
        """Height of the striker of every `step`th hit from the `first`; see `lift`."""
        return lift(self.hits[first::step], self.time_sec)


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


def fade(colour: Colour, amount: float, towards: Colour = BLACK) -> Colour:
    """`towards` at amount 0, `colour` at amount 1 and above."""
    share = min(1.0, max(0.0, amount))
    red, green, blue = (
        there + share * (here - there) for here, there in zip(colour, towards, strict=True)
    )
    return red, green, blue


def turn(points: Sequence[Point], pivot: Point, angle: float) -> list[Point]:
    """Points turned clockwise about `pivot` by `angle` radians."""
    centre, turned = complex(*pivot), cmath.rect(1, angle)
    places = [centre + turned * (complex(x, y) - centre) for x, y in points]
    return [(place.real, place.imag) for place in places]


def burst(
    canvas: Canvas,
    now: Moment,
    centre: Point,
    angles_deg: Sequence[float],
    growth: tuple[float, float, float],
    colour: Colour,
    width: float,
) -> None:
    """Short lines that fly away from a contact while it flashes.

    Args:
      canvas, now: what is painted.
      centre: where they come from.
      angles_deg: whereto; 90 degrees points up.
      growth: how far from the centre they begin at first, how far a second later, their length.
      colour, width: of the lines.
    """
    if now.flash <= VISIBLE_GLOW:
        return
    start, speed, length = growth
    inner = start + speed * now.elapsed_sec
    for angle_deg in angles_deg:
        x, y = math.cos(math.radians(angle_deg)), -math.sin(math.radians(angle_deg))
        ends = [(centre[0] + r * x, centre[1] + r * y) for r in (inner, inner + length)]
        canvas.line(ends, fade(colour, 1.6 * now.flash), width)


def _paint_anvil(canvas: Canvas, now: Moment) -> None:
    """A steel hammer strikes sparks from an anvil."""
    burst(canvas, now, (46, 74), (12, 40, 70, 100, 130, 155, 176), (6, 110, 14), SPARK, 2.5)
    body = [(6, 77), (22, 74), (76, 74), (76, 85), (62, 89), (57, 100), (70, 110), (70, 116)]
    body += [(22, 116), (22, 110), (35, 100), (31, 89), (20, 85)]
    canvas.polygon(body, DARK_STEEL)
    canvas.polygon([(6, 77), (22, 74), (76, 74), (76, 79), (20, 79)], fade(SPARK, now.flash, STEEL))
    pivot = (86.0, 66.0)
    angle = math.radians(55) * now.lift()
    canvas.line(turn([pivot, (46, 64)], pivot, angle), HANDLE, 4.5)
    canvas.polygon(turn([(39, 54), (53, 54), (53, 74), (39, 74)], pivot, angle), STEEL)
    canvas.polygon(turn([(39, 68), (53, 68), (53, 74), (39, 74)], pivot, angle), SILVER)
    canvas.ellipse(pivot, 6, 6, SKIN)


def _paint_woodblock(canvas: Canvas, now: Moment) -> None:
    """A round wooden mallet comes straight down on a block of wood, which gives way a little."""
    give = 4 * now.flash
    burst(canvas, now, (47, 76), (5, 175, 28, 152), (16, 60, 10), PALE_OCHRE, 3)
    front, top, bottom = 88 + give, 77 + give, 116.0
    canvas.polygon([(10, front), (76, front), (76, bottom), (10, bottom)], OCHRE)
    canvas.polygon([(76, front), (86, top), (86, 106), (76, bottom)], DARK_OCHRE)
    lid = fade(WHITE, 0.8 * now.flash, PALE_OCHRE)
    canvas.polygon([(10, front), (20, top), (86, top), (76, front)], lid)
    canvas.line([(18, 103), (68, 103)], DARK_OCHRE, 4)
    height = 40 * now.lift() - give
    canvas.line([(47, 68 - height), (74, 47 - height)], HANDLE, 4)
    canvas.ellipse((47, 70 - height), 12, 10, CREAM)
    canvas.ellipse((44, 67 - height), 4, 3, WHITE)


def _paint_drum(canvas: Canvas, now: Moment) -> None:
    """Two sticks take turns on a red drum, whose skin flashes and ripples."""
    flash = now.flash
    canvas.ellipse((48, 110), 32, 9, RED)
    canvas.polygon([(16, 84), (80, 84), (80, 110), (16, 110)], RED)
    zigzag = [(16, 90), (24, 113), (36, 95), (48, 117), (60, 95), (72, 113), (80, 90)]
    canvas.line(zigzag, GOLD, 2)
    canvas.ellipse((48, 84), 32, 10, GOLD)
    canvas.ellipse((48, 84), 30, 8.5, fade(WHITE, flash, fade(CREAM, 0.75)))
    if flash > VISIBLE_GLOW:
        spread = min(1.0, 0.3 + 5 * now.elapsed_sec)
        canvas.ellipse((48, 84), 28 * spread, 7.5 * spread, fade(RED, flash, CREAM), 2)
    for side, mirror in enumerate((1, -1)):
        pivot = (48 + 38.0 * mirror, 58.0)
        angle = mirror * math.radians(75) * now.lift(side, 2)
        stick = turn([pivot, (48 + 9 * mirror, 84)], pivot, angle)
        canvas.line(stick, OCHRE, 4)
        canvas.ellipse(stick[1], 4, 4, CREAM)
        canvas.ellipse(pivot, 4.5, 4.5, SKIN)


def _paint_glass(canvas: Canvas, now: Moment) -> None:
    """A silver spoon swings against a wine glass, which rings visibly."""
    flash = now.flash
    sway = 3 * flash * math.sin(2 * math.pi * 11 * now.elapsed_sec)
    burst(canvas, now, (37, 68), (115, 145, 180, 215, 245), (20, 35, 7), CYAN, 2.5)
    bowl = [(22, 48), (52, 48), (54, 64), (50, 76), (42, 84), (32, 84), (24, 76), (20, 64)]
    wine = [(20.5, 62), (53.5, 62), (50, 76), (42, 84), (32, 84), (24, 76)]
    canvas.polygon([(x - sway, y) for x, y in bowl], fade(WHITE, flash, DEEP_CYAN))
    canvas.polygon([(x - sway, y) for x, y in wine], fade(WHITE, flash, fade(CYAN, 0.6)))
    canvas.line([(x - sway, y) for x, y in [*bowl, bowl[0]]], CYAN, 2)
    canvas.line([(37 - sway / 2, 84), (37, 112)], CYAN, 3.5)
    canvas.ellipse((37, 114), 16, 4, CYAN)
    pivot = (65.0, 16.0)
    angle = -math.radians(34) * now.lift()
    handle = turn([pivot, (59, 56)], pivot, angle)
    bowl_of_spoon = turn([(57, 53), (63, 57), (62, 68), (57, 71), (53, 66), (53, 57)], pivot, angle)
    canvas.line(handle, SILVER, 3)
    canvas.polygon(bowl_of_spoon, SILVER)
    canvas.ellipse(pivot, 6, 6, SKIN)


def _paint_ball(canvas: Canvas, now: Moment) -> None:
    """A hand drops a rubber ball, which bounces ever lower until the hand catches it again."""
    radius, floor = 11.0, 112.0
    height, hand_height = _ball_heights(now)
    x = 34 + 28 * now.share
    flash = now.flash
    burst(canvas, now, (x, floor - 3), (12, 35, 145, 168), (15, 60, 7), MAGENTA, 2.5)
    canvas.polygon([(4, 112), (92, 112), (92, 120), (4, 120)], fade(WHITE, 0.5 * flash, PURPLE))
    squash = 0.4 * flash
    wide, tall = radius * (1 + squash), radius * (1 - squash)
    y = floor - height - tall
    canvas.ellipse((x, y), wide, tall, MAGENTA)
    canvas.ellipse((x, y), wide * 0.4, tall, YELLOW)
    canvas.ellipse((x - 0.45 * wide, y - 0.45 * tall), 2.5, 2.5, WHITE)
    palm = floor - hand_height - 2 * radius
    canvas.line([(x + 6, palm - 3), (84, palm - 8)], SKIN, 6)
    canvas.ellipse((x, palm - 3), 11, 4.5, SKIN)


def _ball_heights(now: Moment) -> tuple[float, float]:
    """Heights over the floor of the ball's lowest point and of the hand, in unit pixels."""
    first, second, last = now.hits[0], now.hits[1], now.hits[-1]
    restitution = second.strength / first.strength
    drop_height = (BALL_FULL_SPEED * first.strength) ** 2 / (2 * BALL_GRAVITY)
    catch_speed = BALL_FULL_SPEED * last.strength * restitution
    catch_height = catch_speed**2 / (2 * BALL_GRAVITY)
    catch_sec = last.time_sec + catch_speed / BALL_GRAVITY
    lowered = (now.time_sec - first.time_sec) / (catch_sec - first.time_sec)
    hand_height = drop_height + min(1.0, max(0.0, lowered)) * (catch_height - drop_height)

    if now.time_sec >= catch_sec:
        return catch_height, hand_height
    if now.num_past:
        up_speed = BALL_FULL_SPEED * now.strength * restitution
        fallen = BALL_GRAVITY * now.elapsed_sec / 2
        return max(0.0, now.elapsed_sec * (up_speed - fallen)), hand_height
    drop_sec = first.time_sec - BALL_FULL_SPEED * first.strength / BALL_GRAVITY
    falling_sec = max(0.0, now.time_sec - drop_sec)
    return drop_height - BALL_GRAVITY * falling_sec**2 / 2, hand_height


def _paint_scrape(canvas: Canvas, now: Moment) -> None:
    """Two hands shove a crate over the floor, from the left and from the right by turns."""
    left_end, right_end, crate = 19.0, 47.0, 30.0
    stroke_sec = now.hits[0].length_sec
    # As in the sound: a jerk, then braked evenly.
    speed = max(0.0, 1 - now.elapsed_sec / stroke_sec)
    left = speed**2  # share of the way that is left to go
    rightwards = now.num_past % 2 == 1
    x = left_end + (right_end - left_end) * (1 - left if rightwards else left)
    canvas.polygon([(4, 108), (92, 108), (92, 116), (4, 116)], fade(GREY, 0.75))
    if speed > 0:
        trail = x if rightwards else x + crate
        away = -1 if rightwards else 1
        for size, distance, rise in ((7, 2, 4), (5, 9, 9), (4, 6, 16)):
            puff = (trail + away * (distance - 4), 107 - size - rise * (1 - left))
            canvas.ellipse(puff, size * speed, size * speed, fade(CREAM, 0.4 + 0.6 * speed))
        sparks = [(x + 2, 109), (x + crate - 2, 109)]
        canvas.line(sparks, fade(WHITE, speed, GREY), 4)
    canvas.polygon([(x, 70), (x + crate, 70), (x + crate, 108), (x, 108)], GREEN)
    for top in (80, 93):
        canvas.line([(x, top), (x + crate, top)], DARK_GREEN, 2.5)
    for edge in (x + 2, x + crate - 2):
        canvas.line([(edge, 70), (edge, 108)], DARK_GREEN, 4)
    for side, (edge, away) in enumerate(((x, -1), (x + crate, 1))):
        height = 34 * now.lift(side, 2)
        palm = (edge + 5 * away, 86 - height)
        canvas.line([palm, (palm[0] + 6 * away, palm[1] - 24)], RED, 7)
        canvas.ellipse(palm, 5, 8, SKIN)


def _paint_drip(canvas: Canvas, now: Moment) -> None:
    """Drops form under a tap, fall, and splash into a full bucket."""
    spout, surface = 26.0, 82.0
    flash, elapsed_sec = now.flash, now.elapsed_sec
    canvas.polygon([(40, 8), (90, 8), (90, 17), (54, 17), (54, 24), (42, 24), (42, 17)], SILVER)
    canvas.ellipse((66, 7), 8, 3, RED)
    canvas.polygon([(18, 82), (78, 82), (70, 118), (26, 118)], BLUE)
    canvas.polygon([(64, 82), (78, 82), (70, 118), (60, 118)], DARK_BLUE)
    canvas.ellipse((48, surface), 30, 9, SILVER)
    canvas.ellipse((48, surface), 28, 7.5, fade(WHITE, flash, fade(WATER, 0.75)))
    if flash > VISIBLE_GLOW:
        spread = min(1.0, 0.25 + 4.5 * elapsed_sec)
        ripple = fade(DARK_BLUE, 0.5 + flash, WATER)
        canvas.ellipse((48, surface), 26 * spread, 7 * spread, ripple, 2)
        canvas.ellipse((48, surface), 16 * spread, 4 * spread, WHITE, 1.5)
        for sideways in (-150, -80, 0, 80, 150):
            up_speed = 340 * now.strength - abs(sideways)
            rise = up_speed * elapsed_sec - DROP_GRAVITY * elapsed_sec**2
            droplet = (48 + sideways * elapsed_sec, surface - 4 - max(0.0, rise))
            size = 2 + 3 * flash
            canvas.ellipse(droplet, size, size, fade(WHITE, flash, WATER))
    fall_sec = math.sqrt(2 * (surface - spout) / DROP_GRAVITY)
    for hit in now.hits:
        falling_sec = now.time_sec - (hit.time_sec - fall_sec)
        if now.time_sec < hit.time_sec and falling_sec > -DROP_FORMING_SEC:
            size = (4 + 2 * hit.strength) * min(1.0, 1 + falling_sec / DROP_FORMING_SEC)
            y = spout + DROP_GRAVITY * max(0.0, falling_sec) ** 2 / 2
            canvas.polygon([(48 - size, y), (48 + size, y), (48, y - 2.2 * size)], WATER)
            canvas.ellipse((48, y), size, size, WATER)


def _paint_clap(canvas: Canvas, now: Moment) -> None:
    """Two hands in yellow sleeves clap."""
    burst(canvas, now, (48, 58), (25, 57, 90, 123, 155), (24, 60, 12), YELLOW, 3)
    gap = 24 * now.lift()
    palm_colour = fade(WHITE, 0.7 * now.flash, SKIN)
    for mirror in (-1, 1):
        x = 48 + mirror * (gap + 6)
        canvas.polygon(
            [(x - 7, 84), (x + 7, 84), (48 + 30 * mirror + 10, 120), (48 + 30 * mirror - 10, 120)],
            YELLOW,
        )
        canvas.line([(x - 8, 84), (x + 8, 84)], OCHRE, 4)
        canvas.ellipse((x, 66), 6, 17, palm_colour)
        canvas.ellipse((x + 1.5 * mirror, 46), 3.5, 12, palm_colour)
        canvas.line([(x + 3 * mirror, 70), (x + 9 * mirror, 58)], SKIN, 4)


PAINTERS: dict[str, Callable[[Canvas, Moment], None]] = {
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
