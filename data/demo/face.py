"""A drawn presenter whose mouth follows phoneme times.

`Presenter` draws one look's head once, at `SCALE` times the final resolution; per frame only the
mouth and, during a blink, the eyes are drawn on it. Coordinates are pixels of the final picture,
with the origin at the top left corner of the presenter's area.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from data.demo.canvas import Canvas, Colour, Point, curve, ellipse, mix, shade
from data.demo.looks import Look
from data.demo.visemes import Viseme

Box = tuple[int, int, int, int]  # x0, y0, x1, y1

WIDTH: Final = 96
HEIGHT: Final = 128
MOUTH_BOX: Final[Box] = (24, 76, 72, 108)
"""The area that the mouth stays in, the same for every look."""

SCALE: Final = 4
"""Supersampling factor."""

_BLINK_STEPS: Final = 4
"""Distinct positions of the eyelids between open and closed."""

CENTRE_X: Final = 48.0
_HEAD_TOP: Final = 16.0
_CHEEK_Y: Final = 64.0
_CHIN_Y: Final = 114.0
_CHEEK_HALF_WIDTH: Final = 35.0
_EYE_Y: Final = 55.0
_EYE_OFFSET: Final = 15.0
_EYE_HALF_WIDTH: Final = 8.4
_EYE_HALF_HEIGHT: Final = 5.6
_EYES_BOX: Final[Box] = (20, 44, 76, 66)
_MOUTH_Y: Final = 89.0
_MOUTH_INTERIOR: Final[Colour] = (74, 18, 26)
_TEETH: Final[Colour] = (246, 242, 234)
_TONGUE: Final[Colour] = (206, 96, 100)


class Presenter:
    """Draws one look at any mouth shape and any position of the eyelids."""

    def __init__(self, look: Look) -> None:
        self._look = look
        head = _draw_head(look)
        eyes_base, self._mouth_base = (_cropped(head, box) for box in (_EYES_BOX, MOUTH_BOX))
        self._eyes = [
            _draw_eyes(eyes_base.copy(), look, step / _BLINK_STEPS).reduce(SCALE)
            for step in range(_BLINK_STEPS + 1)
        ]
        self._face = head.reduce(SCALE)

    def frame(self, mouth: Viseme, eyes_closed: float) -> np.ndarray:
        """One picture, uint8 [HEIGHT, WIDTH, 3]; `eyes_closed` is from 0 to 1."""
        picture = self._face.copy()
        picture.paste(self._eyes[round(eyes_closed * _BLINK_STEPS)], _EYES_BOX)
        drawn = _draw_mouth(self._mouth_base.copy(), self._look, mouth)
        picture.paste(drawn.reduce(SCALE), MOUTH_BOX)
        return np.asarray(picture)


def _cropped(head: Image.Image, box: Box) -> Image.Image:
    x0, y0, x1, y1 = box
    return head.crop((SCALE * x0, SCALE * y0, SCALE * x1, SCALE * y1))


def _canvas(image: Image.Image, box: Box = (0, 0, WIDTH, HEIGHT)) -> Canvas:
    """Of the area `box` of the picture."""
    return Canvas(image, SCALE, (-SCALE * box[0], -SCALE * box[1]))


def _mirrored(points: Sequence[Point]) -> list[Point]:
    return [(2 * CENTRE_X - x, y) for x, y in points]


def _closed(side: Sequence[Point]) -> list[Point]:
    """The outline of which this is the right side, from the top."""
    return [*side, *_mirrored(side)[::-1]]


def _head_outline(look: Look) -> list[Point]:
    """Outline of head and jaw."""
    y = np.linspace(_HEAD_TOP, _CHIN_Y, 80)
    above = np.maximum(_CHEEK_Y - y, 0) / (_CHEEK_Y - _HEAD_TOP)  # the cheeks, as a share
    below = np.maximum(y - _CHEEK_Y, 0) / (_CHIN_Y - _CHEEK_Y)
    head = (1 - above**2.3) ** 0.5
    jaw = (1 - (1 - look.jaw) * below**1.6) * (1 - below**4.5) ** 0.5
    return _closed(_points(CENTRE_X + _CHEEK_HALF_WIDTH * head * jaw, y))


def _points(xs: np.ndarray, ys: np.ndarray) -> list[Point]:
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def _draw_head(look: Look) -> Image.Image:
    """Everything but the eyes and the mouth."""
    canvas = _canvas(Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE)))
    _draw_back_hair(canvas, look)
    _draw_body(canvas, look)
    _draw_skin(canvas, look)
    _draw_nose(canvas, look)
    if look.beard:
        _draw_beard(canvas, look)
    _draw_front_hair(canvas, look)
    _draw_brows(canvas, look)
    if look.earrings:
        for x in (CENTRE_X - 36, CENTRE_X + 36):
            canvas.polygon(ellipse((x, 78), (1.7, 2.6)), (240, 206, 110))
    return canvas.image


def _draw_back_hair(canvas: Canvas, look: Look) -> None:
    dark = shade(look.hair, 0.72)
    if look.hair_style == "long":
        side = curve([(48, 5), (76, 12), (90, 40), (91, 78), (94, 112), (80, 124), (60, 118)])
        canvas.polygon(_closed(side), dark)
    elif look.hair_style == "bob":
        side = curve([(48, 5), (77, 12), (90, 42), (90, 74), (86, 94), (70, 97)])
        canvas.polygon(_closed(side), dark)
    elif look.hair_style == "bun":
        canvas.polygon(ellipse((CENTRE_X, 10), (14, 10)), dark)
        canvas.polygon(ellipse((CENTRE_X - 2, 8), (10, 6.5)), look.hair)
        canvas.blend(ellipse((CENTRE_X - 4, 6), (5, 2.5)), shade(look.hair, 1.5), 0.6, 1.2)
        canvas.polygon(ellipse((CENTRE_X, 48), (38.5, 40)), dark)
    elif look.hair_style != "bald":
        canvas.polygon(ellipse((CENTRE_X, 44), (37.5, 36)), dark)


def _draw_body(canvas: Canvas, look: Look) -> None:
    shadow = shade(look.skin, 0.72)
    shoulders = curve([(48, 115), (66, 116.5), (84, 121), (93, 128)])
    canvas.polygon(_closed(shoulders), look.clothes)
    side = curve([(62, 98), (62.5, 110), (66, 117)])
    neckline = curve([(66, 117), (60, 123), (48, 126)])
    opening = side + neckline
    canvas.polygon(_closed(opening), shade(look.skin, 0.88))
    canvas.blend(ellipse((CENTRE_X, 109), (17, 9)), shadow, 0.8, 2.0)
    canvas.line(_closed(neckline), shade(look.clothes, 0.65), 1.6)


def _draw_skin(canvas: Canvas, look: Look) -> None:
    shadow = mix(shade(look.skin, 0.70), (120, 50, 40), 0.15)
    for x in (CENTRE_X - 35.5, CENTRE_X + 35.5):
        canvas.polygon(ellipse((x, 64), (4.6, 9)), shade(look.skin, 0.92))
        canvas.polygon(ellipse((x, 64), (2.2, 5.5)), shadow)
    outline = _head_outline(look)
    canvas.polygon(outline, look.skin)
    with canvas.within(outline) as soft:
        _light(soft, look, shadow)


def _light(soft: Canvas, look: Look, shadow: Colour) -> None:
    """Light and shadow on the skin, and its blushes and freckles."""
    soft.blend(ellipse((CENTRE_X - 12, 34), (18, 13)), shade(look.skin, 1.5), 0.5, 7)
    soft.blend(ellipse((CENTRE_X + 38, 70), (11, 48)), shadow, 0.75, 5)
    soft.blend(ellipse((CENTRE_X - 40, 78), (7, 40)), shadow, 0.5, 4)
    soft.blend(ellipse((CENTRE_X, 118), (30, 7)), shadow, 0.7, 4)
    blush = mix(look.skin, (226, 82, 82), 0.55)
    for x in (CENTRE_X - 21, CENTRE_X + 21):
        soft.blend(ellipse((x, 75), (8, 5.5)), blush, 0.5, 4)
        eye = (CENTRE_X + math.copysign(_EYE_OFFSET, x - CENTRE_X), _EYE_Y - 1)
        soft.blend(ellipse(eye, (10, 7)), shadow, 0.45, 3)
    if look.freckles:
        for index in range(14):
            # A golden-angle spiral spreads the freckles without a visible pattern.
            radius, angle = 2.0 * math.sqrt(index + 1), 2.4 * index
            for x in (CENTRE_X - 19, CENTRE_X + 19):
                spot = (x + 1.2 * radius * math.cos(angle), 72 + 0.6 * radius * math.sin(angle))
                soft.blend(ellipse(spot, (0.55, 0.55)), (190, 112, 74), 0.7)


def _draw_nose(canvas: Canvas, look: Look) -> None:
    shadow = mix(shade(look.skin, 0.62), (110, 44, 36), 0.2)
    bridge = curve([(45, 52), (43.5, 62), (42.2, 70), (43.5, 73)])
    canvas.blend([*bridge, (46.5, 72), (46, 60)], shadow, 0.28, 1.2)
    canvas.blend(ellipse((48.3, 67), (2.2, 6)), shade(look.skin, 1.6), 0.5, 1.8)
    tip = curve([(41.8, 71), (43.2, 74.2), (48, 75.2), (52.8, 74.2), (54.2, 71)])
    canvas.blend([*tip, (48, 73.4)], shadow, 0.55, 0.7)
    for x in (CENTRE_X - 3.4, CENTRE_X + 3.4):
        canvas.blend(ellipse((x, 73.6), (1.7, 0.9)), shade(shadow, 0.6), 0.8, 0.4)


def _draw_beard(canvas: Canvas, look: Look) -> None:
    head = canvas.mask(_head_outline(look))
    inner = curve([(82, 60), (78, 76), (66, 80), (56, 77.5), (48, 78.5)])
    beard = [*inner, (48, 124), (90, 124), (92, 60)]
    mask = ImageChops.lighter(canvas.mask(beard), canvas.mask(_mirrored(beard)))
    mask = ImageChops.multiply(mask.filter(ImageFilter.GaussianBlur(1.4 * SCALE)), head)
    mask = mask.point([round(value * look.beard) for value in range(256)])
    canvas.image.paste(shade(look.hair, 0.9), mask=mask)


def _draw_front_hair(canvas: Canvas, look: Look) -> None:
    hair, shine = look.hair, shade(look.hair, 1.35)
    if look.hair_style in ("long", "bob"):
        parting = 40 if look.hair_style == "long" else 56
        left = curve([(parting, 8), (26, 24), (15, 44), (12, 66), (8, 78)])
        right = curve([(parting, 8), (70, 22), (81, 42), (84, 66), (88, 78)])
        left_outer = curve([(5, 74), (6, 40), (22, 12), (parting, 4)])
        right_outer = curve([(91, 74), (90, 40), (74, 12), (parting, 4)])
        canvas.polygon(left + left_outer, hair)
        canvas.polygon(right + right_outer, hair)
        if look.hair_style == "long":
            lock = curve([(10, 60), (6, 84), (8, 108), (15, 122), (20, 110), (15, 84)])
            canvas.polygon(lock, hair)
            canvas.polygon(_mirrored(lock), hair)
        canvas.blend(curve([(14, 42), (22, 25), (34, 13), (30, 22), (19, 40)]), shine, 0.6, 1.5)
        canvas.blend(curve([(82, 42), (76, 26), (64, 14), (68, 22), (77, 40)]), shine, 0.4, 1.5)
    elif look.hair_style == "bun":
        hairline = curve([(11, 58), (15, 36), (30, 24), (48, 21), (66, 24), (81, 36), (85, 58)])
        crown = curve([(87, 56), (85, 30), (68, 11), (48, 6), (28, 11), (11, 30), (9, 56)])
        canvas.polygon(hairline + crown, hair)
        for x in (24, 36, 60, 72):
            strand = curve([(x, 25 + abs(x - 48) * 0.12), ((x + 48) / 2, 14), (48, 8)])
            canvas.blend([*strand, (strand[0][0] + 2, strand[0][1])], shine, 0.45, 0.8)
    elif look.hair_style == "short":
        fringe = curve([(12, 54), (15, 38), (24, 29), (40, 30), (58, 24), (76, 30), (84, 54)])
        crown = curve([(86, 50), (84, 28), (68, 9), (46, 5), (24, 11), (11, 30), (10, 50)])
        canvas.polygon(fringe + crown, hair)
        canvas.blend(curve([(22, 22), (40, 11), (60, 10), (44, 16), (28, 24)]), shine, 0.6, 1.6)
    elif look.hair_style == "side":
        fringe = curve([(12, 56), (16, 40), (22, 33), (34, 20), (58, 27), (80, 38), (84, 56)])
        crown = curve([(86, 50), (86, 26), (68, 8), (42, 4), (22, 12), (11, 30), (10, 52)])
        canvas.polygon(fringe + crown, hair)
        for x in (46, 56, 66, 75):
            strand = curve([(36, 18), ((36 + x) / 2, 13), (x, 24 + (x - 46) * 0.35)])
            canvas.line(strand, shade(hair, 0.82), 0.6)
        canvas.blend(curve([(40, 12), (56, 10), (70, 18), (56, 15)]), shine, 0.7, 1.4)
    else:  # Bald: closely cropped at the sides, a shine on top.
        side = curve([(11, 62), (12, 46), (18, 32), (17, 46), (15, 60)])
        with canvas.within(_head_outline(look)) as cropped:
            for outline in (side, _mirrored(side)):
                cropped.blend(outline, hair, 0.8, 1.2)
            cropped.blend(ellipse((38, 27), (11, 4.5)), shade(look.skin, 1.7), 0.5, 2.5)


def _draw_brows(canvas: Canvas, look: Look) -> None:
    colour = shade(look.hair, 0.75)
    upper = curve([(23.5, 46.5), (30, 41.6), (40.5, 43.8)])
    brow = upper + [(x, y + look.brow * (0.55 + 0.45 * (x - 23.5) / 17)) for x, y in upper[::-1]]
    canvas.blend(brow, colour, 0.9, 0.25)
    canvas.blend(_mirrored(brow), colour, 0.9, 0.25)


def _draw_eyes(base: Image.Image, look: Look, closed: float) -> Image.Image:
    """Draws both eyes on the area of `_EYES_BOX`; `closed` is from 0 to 1."""
    canvas = _canvas(base, _EYES_BOX)
    lid = shade(look.skin, 0.86)
    line = mix(shade(look.hair, 0.4), (30, 18, 16), 0.6)
    for side in (-1, 1):
        x = CENTRE_X + side * _EYE_OFFSET
        outer, inner = x + side * _EYE_HALF_WIDTH, x - side * _EYE_HALF_WIDTH
        top = _EYE_Y - _EYE_HALF_HEIGHT * (1 - 1.7 * closed)
        upper = curve([(inner, _EYE_Y + 1.2), (x, top), (outer, _EYE_Y - 0.6)])
        lower = curve([(outer, _EYE_Y - 0.6), (x, _EYE_Y + 4.2), (inner, _EYE_Y + 1.2)])
        if closed < 1:
            with canvas.within(upper + lower) as eye:
                eye.polygon(upper + lower, (250, 247, 243))
                eye.blend(ellipse((x, _EYE_Y - 4.5), (9, 3)), (120, 100, 100), 0.5, 0.8)
                eye.polygon(ellipse((x, _EYE_Y - 0.4), (4.6, 4.6)), shade(look.iris, 0.6))
                eye.polygon(ellipse((x, _EYE_Y - 0.2), (3.9, 3.9)), look.iris)
                eye.polygon(ellipse((x, _EYE_Y - 0.4), (2.1, 2.1)), (18, 12, 12))
                eye.polygon(ellipse((x - 1.5, _EYE_Y - 2.0), (1.2, 1.2)), (255, 255, 255))
        if closed > 0:
            open_top = curve(
                [(outer, _EYE_Y - 0.6), (x, _EYE_Y - _EYE_HALF_HEIGHT), (inner, _EYE_Y + 1.2)]
            )
            canvas.polygon(upper + open_top, lid)
        canvas.line(upper, line, look.lashes)
        if look.lashes > 1:
            canvas.line([(outer, _EYE_Y - 0.6), (outer + side * 1.6, _EYE_Y - 2.4)], line, 0.9)
        canvas.line(lower[4:-4], shade(look.skin, 0.62), 0.4)
        crease = [(px, py - 2.2 + closed) for px, py in upper[4:-4]]
        canvas.line(crease, shade(look.skin, 0.68), 0.5)
        if look.glasses:
            rim = ellipse((x, _EYE_Y + 0.8), (11.2, 8.6))
            canvas.line(rim, (52, 44, 48), 1.1)
            canvas.line([(x + side * 11.2, _EYE_Y), (x + side * 13, _EYE_Y - 1)], (52, 44, 48), 1.1)
            canvas.line([(x - side * 11.2, _EYE_Y), (CENTRE_X, _EYE_Y - 1.2)], (52, 44, 48), 1.1)
    return base


def _draw_mouth(base: Image.Image, look: Look, mouth: Viseme) -> Image.Image:
    """Draws the lips and what shows between them on the area of `MOUTH_BOX`."""
    canvas = _canvas(base, MOUTH_BOX)
    half_width = 10.0 + 8.0 * mouth.width - 2.5 * mouth.roundness + 1.2 * mouth.openness
    gap = 15.0 * mouth.openness
    fullness = (1 - 0.75 * mouth.press) * (1 + 0.45 * mouth.roundness)
    upper_lip = 3.6 * fullness
    lower_lip = 4.6 * fullness * (1 - 0.6 * mouth.tuck)
    # The jaw takes the lower lip down; the upper lip rises only a little.
    corner_y = _MOUTH_Y + 0.25 * gap
    rise, drop = 0.53 * gap, 0.47 * gap
    gap_top, gap_bottom = corner_y - rise, corner_y + drop

    # From the left corner (-1) to the right one (1).
    across = np.linspace(-1.0, 1.0, 41)
    arch = (1 - np.abs(across) ** 2.4) ** 0.75
    cupids_bow = 1 - 0.28 * np.exp(-((across / 0.2) ** 2))
    left, right = CENTRE_X - half_width, CENTRE_X + half_width
    xs = np.linspace(left, right, len(across))
    lip_xs = CENTRE_X + (half_width + 0.8) * across

    # The corners turn up a little when the mouth is shut: a friendly face at rest.
    line_ys = corner_y - (1 - mouth.openness) * np.abs(across) ** 3
    gap_upper = _points(xs, line_ys - rise * arch)
    gap_lower = _points(xs, line_ys + drop * arch)[::-1]
    top = _points(lip_xs, line_ys - rise * arch - upper_lip * arch * cupids_bow)
    bottom = _points(lip_xs, line_ys + (drop + lower_lip) * arch)[::-1]

    beneath = look.skin if not look.beard else mix(look.skin, look.hair, look.beard)
    under_lip = (CENTRE_X, min(gap_bottom + lower_lip + 1.4, MOUTH_BOX[3] - 2))
    canvas.blend(ellipse(under_lip, (0.5 * half_width, 1.0)), shade(beneath, 0.7), 0.6)
    canvas.polygon(top + gap_upper[::-1], shade(look.lips, 0.86))
    canvas.polygon(bottom + gap_lower[::-1], look.lips)
    shine = (CENTRE_X - 1.5, gap_bottom + 0.45 * lower_lip)
    canvas.polygon(ellipse(shine, (0.32 * half_width, 0.18 * lower_lip)), shade(look.lips, 1.28))

    tongue_y = gap_bottom + 2.5 - (gap + 1.0) * 0.75 * mouth.tongue
    teeth_bottom = gap_top + 0.3 + min(gap, 1.2 + 3.6 * mouth.teeth)
    with canvas.within(gap_upper + gap_lower) as interior:
        interior.polygon(top + bottom, _MOUTH_INTERIOR)
        interior.polygon(ellipse((CENTRE_X, tongue_y + 2.0), (0.62 * half_width, 4.5)), _TONGUE)
        if mouth.teeth > 0:
            teeth = [(left, gap_top - 2), (right, gap_top - 2), (right, teeth_bottom - 0.6)]
            teeth += [(CENTRE_X, teeth_bottom), (left, teeth_bottom - 0.6)]
            interior.polygon(teeth, _TEETH)
    seam = shade(look.lips, 0.42)
    canvas.line(gap_upper, seam, 0.6)
    if gap < 1.0:
        canvas.line(gap_lower, seam, 0.6)
    return base
