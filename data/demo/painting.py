"""How scenes of events are painted: one painter for each kind."""

import math
from collections.abc import Callable, Sequence

from data.demo.brush import Brush, Colour, _since_latest, fade, glow, lift, rays, turn
from data.demo.foley import Hit

WIDTH, HEIGHT = 96, 128


BALL_GRAVITY = 600.0  # unit pixels/s^2
BALL_FULL_SPEED = 290.0  # unit pixels/s at a contact of strength 1
BALL_RESTITUTION = (0.74, 0.86)
BALL_FIRST_STRENGTH = (0.85, 1.0)
BALL_MIN_GAP_SEC = 0.3
BALL_MIN_BOUNCES = 3
DROP_GRAVITY = 900.0  # unit pixels/s^2
DROP_FORMING_SEC = 0.2


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
        rays(brush, contact, sparks_deg, (inner, inner + 14), fade(SPARK, 1.6 * flash), 2.5)
    body = [(6, 77), (22, 74), (76, 74), (76, 85), (62, 89), (57, 100), (70, 110), (70, 116)]
    body += [(22, 116), (22, 110), (35, 100), (31, 89), (20, 85)]
    brush.polygon(body, DARK_STEEL)
    brush.polygon([(6, 77), (22, 74), (76, 74), (76, 79), (20, 79)], fade(SPARK, flash, STEEL))
    pivot = (86.0, 66.0)
    angle = math.radians(55) * lift(hits, time_sec)
    brush.line(turn([pivot, (46, 64)], pivot, angle), HANDLE, 4.5)
    brush.polygon(turn([(39, 54), (53, 54), (53, 74), (39, 74)], pivot, angle), STEEL)
    brush.polygon(turn([(39, 68), (53, 68), (53, 74), (39, 74)], pivot, angle), SILVER)
    brush.ellipse(pivot, 6, 6, SKIN)


def _paint_woodblock(brush: Brush, hits: Sequence[Hit], time_sec: float, _: float) -> None:
    """A round wooden mallet comes straight down on a block of wood, which gives way a little."""
    flash = glow(hits, time_sec)
    give = 4 * flash
    if flash > VISIBLE_GLOW:
        elapsed_sec, _strength = _since_latest(hits, time_sec)
        reach = (16 + 60 * elapsed_sec, 26 + 60 * elapsed_sec)
        rays(brush, (47, 76), (5, 175, 28, 152), reach, fade(PALE_OCHRE, 1.6 * flash), 3)
    front, top, bottom = 88 + give, 77 + give, 116.0
    brush.polygon([(10, front), (76, front), (76, bottom), (10, bottom)], OCHRE)
    brush.polygon([(76, front), (86, top), (86, 106), (76, bottom)], DARK_OCHRE)
    lid = fade(WHITE, 0.8 * flash, PALE_OCHRE)
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
    brush.ellipse((48, 84), 30, 8.5, fade(WHITE, flash, fade(CREAM, 0.75)))
    if flash > VISIBLE_GLOW:
        elapsed_sec, _strength = _since_latest(hits, time_sec)
        spread = min(1.0, 0.3 + 5 * elapsed_sec)
        brush.ellipse((48, 84), 28 * spread, 7.5 * spread, fade(RED, flash, CREAM), 2)
    for side, mirror in enumerate((1, -1)):
        pivot = (48 + 38.0 * mirror, 58.0)
        angle = mirror * math.radians(75) * lift(hits[side::2], time_sec)
        stick = turn([pivot, (48 + 9 * mirror, 84)], pivot, angle)
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
        rays(brush, (37, 68), rings_deg, (radius, radius + 7), fade(CYAN, 1.6 * flash), 2.5)
    bowl = [(22, 48), (52, 48), (54, 64), (50, 76), (42, 84), (32, 84), (24, 76), (20, 64)]
    wine = [(20.5, 62), (53.5, 62), (50, 76), (42, 84), (32, 84), (24, 76)]
    brush.polygon([(x - sway, y) for x, y in bowl], fade(WHITE, flash, DEEP_CYAN))
    brush.polygon([(x - sway, y) for x, y in wine], fade(WHITE, flash, fade(CYAN, 0.6)))
    brush.line([(x - sway, y) for x, y in [*bowl, bowl[0]]], CYAN, 2)
    brush.line([(37 - sway / 2, 84), (37, 112)], CYAN, 3.5)
    brush.ellipse((37, 114), 16, 4, CYAN)
    pivot = (65.0, 16.0)
    angle = -math.radians(34) * lift(hits, time_sec)
    handle = turn([pivot, (59, 56)], pivot, angle)
    bowl_of_spoon = turn([(57, 53), (63, 57), (62, 68), (57, 71), (53, 66), (53, 57)], pivot, angle)
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
        rays(brush, (x, floor - 3), (12, 35, 145, 168), reach, fade(MAGENTA, 1.6 * flash), 2.5)
    brush.polygon([(4, 112), (92, 112), (92, 120), (4, 120)], fade(WHITE, 0.5 * flash, PURPLE))
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
    brush.polygon([(4, 108), (92, 108), (92, 116), (4, 116)], fade(GREY, 0.75))
    if speed > 0:
        trail = x if rightwards else x + crate
        away = -1 if rightwards else 1
        for size, distance, rise in ((7, 2, 4), (5, 9, 9), (4, 6, 16)):
            puff = (trail + away * (distance - 4), 107 - size - rise * (1 - left))
            brush.ellipse(puff, size * speed, size * speed, fade(CREAM, 0.4 + 0.6 * speed))
        sparks = [(x + 2, 109), (x + crate - 2, 109)]
        brush.line(sparks, fade(WHITE, speed, GREY), 4)
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
    brush.ellipse((48, surface), 28, 7.5, fade(WHITE, flash, fade(WATER, 0.75)))
    if flash > VISIBLE_GLOW:
        spread = min(1.0, 0.25 + 4.5 * elapsed_sec)
        ripple = fade(DARK_BLUE, 0.5 + flash, WATER)
        brush.ellipse((48, surface), 26 * spread, 7 * spread, ripple, 2)
        brush.ellipse((48, surface), 16 * spread, 4 * spread, WHITE, 1.5)
        for sideways in (-150, -80, 0, 80, 150):
            up_speed = 340 * strength - abs(sideways)
            rise = up_speed * elapsed_sec - DROP_GRAVITY * elapsed_sec**2
            droplet = (48 + sideways * elapsed_sec, surface - 4 - max(0.0, rise))
            size = 2 + 3 * flash
            brush.ellipse(droplet, size, size, fade(WHITE, flash, WATER))
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
        rays(brush, (48, 58), burst_deg, (inner, inner + 12), fade(YELLOW, 1.6 * flash), 3)
    gap = 24 * lift(hits, time_sec)
    palm_colour = fade(WHITE, 0.7 * flash, SKIN)
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
