"""A drawn presenter whose mouth follows phoneme times.

`Presenter` draws one look's head once, at `SCALE` times the final resolution; per frame only the
mouth and, during a blink, the eyes are drawn on it. Coordinates are pixels of the final picture,
with the origin at the top left corner of the presenter's area.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

WIDTH: Final = 96
HEIGHT: Final = 128
MOUTH_BOX: Final = (24, 76, 72, 108)
"""x0, y0, x1, y1 of the area that the mouth stays in, the same for every look."""

SCALE: Final = 4
"""Supersampling factor."""

Colour = tuple[int, int, int]
Point = tuple[float, float]


# ------------------------------------------------------------------------------------------ visemes


class Viseme(NamedTuple):
    """A mouth shape. All values are from 0 to 1.

    Attributes:
      openness: height of the gap between the lips.
      width: 0 narrow as in "w", 0.5 at rest, 1 spread as in "see".
      roundness: how far the lips stick out.
      teeth: how much of the upper teeth shows in the gap.
      tongue: height of the tongue's tip in the gap.
      press: how far the lips are rolled in, as in "m".
      tuck: how far the lower lip is under the upper teeth, as in "f".
      dominance: how strongly the shape asserts itself against its neighbours (not drawn).
    """

    openness: float
    width: float
    roundness: float = 0.0
    teeth: float = 0.0
    tongue: float = 0.0
    press: float = 0.0
    tuck: float = 0.0
    dominance: float = 1.0


VISEMES: Final = {
    "rest": Viseme(0.0, 0.5),
    "bilabial": Viseme(0.0, 0.5, press=1.0, dominance=4.0),
    "labiodental": Viseme(0.16, 0.55, teeth=1.0, tuck=1.0, dominance=3.0),
    "dental": Viseme(0.30, 0.55, teeth=0.6, tongue=1.0, dominance=2.0),
    "alveolar": Viseme(0.22, 0.60, teeth=0.9, tongue=0.35),
    "sibilant": Viseme(0.14, 0.85, teeth=1.0, dominance=1.5),
    "postalveolar": Viseme(0.28, 0.25, roundness=0.7, teeth=0.9, dominance=2.0),
    "velar": Viseme(0.38, 0.55, teeth=0.4),
    "lateral": Viseme(0.42, 0.55, teeth=0.4, tongue=0.9, dominance=1.5),
    "rhotic": Viseme(0.20, 0.25, roundness=0.5, teeth=0.3),
    "close_round": Viseme(0.16, 0.0, roundness=1.0, dominance=2.0),
    "close_front": Viseme(0.28, 1.0, teeth=0.8, tongue=0.2),
    "mid_front": Viseme(0.58, 0.80, teeth=0.6, tongue=0.1),
    "open": Viseme(1.0, 0.60, teeth=0.5, tongue=0.2),
    "mid_back_round": Viseme(0.66, 0.20, roundness=0.8, teeth=0.2),
    "central": Viseme(0.40, 0.50, teeth=0.4),
}

PHONEME_VISEMES: Final[dict[str, tuple[str, ...]]] = {
    "p": ("bilabial",),
    "b": ("bilabial",),
    "m": ("bilabial",),
    "f": ("labiodental",),
    "v": ("labiodental",),
    "T": ("dental",),
    "D": ("dental",),
    "t": ("alveolar",),
    "t#": ("alveolar",),
    "d": ("alveolar",),
    "n": ("alveolar",),
    "s": ("sibilant",),
    "z": ("sibilant",),
    "S": ("postalveolar",),
    "Z": ("postalveolar",),
    "tS": ("postalveolar",),
    "dZ": ("postalveolar",),
    "k": ("velar",),
    "g": ("velar",),
    "N": ("velar",),
    "h": ("central",),
    "l": ("lateral",),
    "r": ("rhotic",),
    "r-": ("rhotic",),
    "w": ("close_round",),
    "j": ("close_front",),
    "i": ("close_front",),
    "i:": ("close_front",),
    "I": ("mid_front",),
    "I2": ("mid_front",),
    "E": ("mid_front",),
    "a": ("open",),
    "a#": ("central",),
    "A:": ("open",),
    "0": ("open",),
    "V": ("open",),
    "@": ("central",),
    "3:": ("rhotic",),
    "U": ("close_round",),
    "u:": ("close_round",),
    "O:": ("mid_back_round",),
    "eI": ("mid_front", "close_front"),
    "aI": ("open", "close_front"),
    "aU": ("open", "close_round"),
    "oU": ("mid_back_round", "close_round"),
    "OI": ("mid_back_round", "close_front"),
    "A@": ("open", "rhotic"),
    "i@": ("close_front", "central"),
    "o@": ("mid_back_round", "rhotic"),
}
"""espeak-ng mnemonic without stress marks -> its visemes, which share its duration equally."""

_STRESS_MARKS: Final = "',%=;"
"""";" stands alone: a mark of palatalisation, with no shape of its own."""

_TRACK_RATE: Final = 200
"""Resolution of the mouth's track in time, in Hz."""
_COARTICULATION_SEC: Final = 0.06
"""Width, at half height, of the window over which neighbouring shapes blend."""


def visemes_of(phoneme: str) -> tuple[str, ...]:
    """Names of the visemes that a phoneme mnemonic passes through; () for a mere mark.

    Raises:
      KeyError: the phoneme is not in `PHONEME_VISEMES`.
    """
    bare = phoneme.strip(_STRESS_MARKS)
    if not bare:
        return ()
    return PHONEME_VISEMES[bare]


def mouth_track(
    phonemes: Sequence[tuple[float, str]], end_sec: float, times_sec: np.ndarray
) -> list[Viseme]:
    """The mouth's shape at given times: at rest in silence, smoothly blended in between.

    Args:
      phonemes: (start in seconds, mnemonic) in order of time; each lasts until the next one.
      end_sec: end of the last phoneme.
      times_sec: increasing, from 0 on, [n].

    Returns:
      n mouth shapes.
    """
    segments = _segments(phonemes, end_sec)
    num_points = math.ceil((times_sec[-1] + _COARTICULATION_SEC) * _TRACK_RATE) + 1
    track = np.tile(np.array(VISEMES["rest"]), (num_points, 1))
    for start_sec, stop_sec, viseme in segments:
        # A shape shorter than a point of the grid still gets one.
        start = round(start_sec * _TRACK_RATE)
        stop = max(round(stop_sec * _TRACK_RATE), start + 1)
        track[start:stop] = VISEMES[viseme]

    # Blend with weights: window x dominance. A strong shape holds its ground, a weak one yields.
    window = np.hanning(round(2 * _COARTICULATION_SEC * _TRACK_RATE) + 1)
    weights = track[:, -1:]  # Dominance is the last field.
    weighted = np.concatenate([track * weights, weights], axis=1)
    blended = np.stack([_smooth(column, window) for column in weighted.T], axis=1)
    shapes = blended[:, :-1] / blended[:, -1:]

    grid_sec = np.arange(num_points) / _TRACK_RATE
    sampled = [np.interp(times_sec, grid_sec, column) for column in shapes.T]
    return [Viseme(*(float(value) for value in row)) for row in zip(*sampled, strict=True)]


def _segments(
    phonemes: Sequence[tuple[float, str]], end_sec: float
) -> list[tuple[float, float, str]]:
    """(start, stop, viseme name), both times in seconds."""
    stops = [start for start, _ in phonemes[1:]] + [end_sec]
    segments = []
    for (start, phoneme), stop in zip(phonemes, stops, strict=True):
        names = visemes_of(phoneme)
        for index, name in enumerate(names):
            share = (stop - start) / len(names)
            segments.append((start + index * share, start + (index + 1) * share, name))
    return segments


def _smooth(column: np.ndarray, window: np.ndarray) -> np.ndarray:
    half = len(window) // 2
    padded = np.pad(column, half, mode="edge")
    return np.convolve(padded, window, mode="valid")


# -------------------------------------------------------------------------------------------- looks


class Look(NamedTuple):
    """What tells one presenter from another.

    Attributes:
      skin, hair, iris, lips, clothes: colours.
      hair_style: "long", "bob", "bun", "short", "side" or "bald".
      jaw: width of the jaw relative to the cheeks, about 0.7 to 0.9.
      beard: opacity of the beard, 0 to 1.
      brow: thickness of the eyebrows in pixels.
      lashes: thickness of the upper lid line in pixels.
      glasses, earrings, freckles: whether there are any.
    """

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    clothes: Colour
    hair_style: str
    jaw: float
    beard: float = 0.0
    brow: float = 1.8
    lashes: float = 1.2
    glasses: bool = False
    earrings: bool = False
    freckles: bool = False


LOOKS: Final = {
    "f2": Look(
        skin=(244, 202, 172),
        hair=(122, 70, 36),
        iris=(86, 132, 74),
        lips=(204, 82, 88),
        clothes=(46, 120, 128),
        hair_style="long",
        jaw=0.72,
        earrings=True,
    ),
    "f3": Look(
        skin=(176, 118, 82),
        hair=(62, 42, 44),
        iris=(96, 58, 32),
        lips=(166, 52, 66),
        clothes=(224, 154, 44),
        hair_style="bob",
        jaw=0.74,
        brow=2.0,
    ),
    "f5": Look(
        skin=(250, 216, 192),
        hair=(196, 82, 34),
        iris=(66, 118, 168),
        lips=(214, 96, 90),
        clothes=(110, 78, 160),
        hair_style="bun",
        jaw=0.70,
        brow=1.6,
        freckles=True,
    ),
    "klatt": Look(
        skin=(232, 184, 148),
        hair=(74, 54, 44),
        iris=(100, 72, 44),
        lips=(190, 104, 94),
        clothes=(52, 84, 150),
        hair_style="short",
        jaw=0.86,
        beard=0.62,
        brow=2.6,
        lashes=0.9,
    ),
    "klatt4": Look(
        skin=(238, 192, 166),
        hair=(176, 176, 182),
        iris=(84, 120, 150),
        lips=(192, 112, 106),
        clothes=(140, 48, 56),
        hair_style="side",
        jaw=0.8700,
        brow=2.3,
        lashes=0.8,
        glasses=True,
    ),
    "m6": Look(
        skin=(122, 78, 54),
        hair=(52, 38, 34),
        iris=(70, 42, 26),
        lips=(146, 78, 74),
        clothes=(70, 140, 84),
        hair_style="bald",
        jaw=0.87,
        beard=0.8,
        brow=2.8,
        lashes=0.9,
    ),
}
"""One look for each voice of `speech.VOICES`."""


# ------------------------------------------------------------------------------------------ drawing

_BLINK_STEPS: Final = 4
"""Distinct positions of the eyelids between open and closed."""

_CENTRE_X: Final = 48.0
_HEAD_TOP: Final = 16.0
_CHEEK_Y: Final = 64.0
_CHIN_Y: Final = 114.0
_CHEEK_HALF_WIDTH: Final = 35.0
_EYE_Y: Final = 55.0
_EYE_OFFSET: Final = 15.0
_EYE_HALF_WIDTH: Final = 8.4
_EYE_HALF_HEIGHT: Final = 5.6
_EYES_BOX: Final = (20, 44, 76, 66)
_MOUTH_Y: Final = 89.0
_MOUTH_INTERIOR: Final[Colour] = (74, 18, 26)
_TEETH: Final[Colour] = (246, 242, 234)
_TONGUE: Final[Colour] = (206, 96, 100)


class Presenter:
    """Draws one look at any mouth shape and any position of the eyelids."""

    def __init__(self, look: Look) -> None:
        self._look = look
        head = _draw_head(look)
        self._mouth_base = head.crop(_scaled_box(MOUTH_BOX))
        eyes_base = head.crop(_scaled_box(_EYES_BOX))
        self._eyes = [
            _reduced(_draw_eyes(eyes_base.copy(), look, step / _BLINK_STEPS))
            for step in range(_BLINK_STEPS + 1)
        ]
        self._face = _reduced(head)

    def frame(self, mouth: Viseme, eyes_closed: float) -> np.ndarray:
        """One picture, uint8 [HEIGHT, WIDTH, 3]; `eyes_closed` is from 0 to 1."""
        picture = self._face.copy()
        _paste(picture, _EYES_BOX, self._eyes[round(eyes_closed * _BLINK_STEPS)])
        patch = _reduced(_draw_mouth(self._mouth_base.copy(), self._look, mouth))
        _paste(picture, MOUTH_BOX, patch)
        return picture


class _Canvas:
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
        self.polygon(_ellipse(centre, radii), colour)

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


def _scaled_box(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (SCALE * edge for edge in box)
    return x0, y0, x1, y1


def _reduced(image: Image.Image) -> np.ndarray:
    return np.asarray(image.reduce(SCALE))


def _paste(picture: np.ndarray, box: tuple[int, int, int, int], patch: np.ndarray) -> None:
    x0, y0, x1, y1 = box
    picture[y0:y1, x0:x1] = patch


def _shade(colour: Colour, factor: float) -> Colour:
    """Darker for factors under 1, towards white above it (2 is white)."""
    if factor <= 1:
        red, green, blue = (round(channel * factor) for channel in colour)
    else:
        red, green, blue = (round(channel + (255 - channel) * (factor - 1)) for channel in colour)
    return red, green, blue


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour, the rest of the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _ellipse(centre: Point, radii: Point, start: float = 0.0, stop: float = 1.0) -> list[Point]:
    """Points of an ellipse from `start` to `stop` turns, clockwise from the right."""
    angles = np.linspace(2 * math.pi * start, 2 * math.pi * stop, 48)
    return [
        (centre[0] + radii[0] * math.cos(angle), centre[1] + radii[1] * math.sin(angle))
        for angle in angles
    ]


def _mirrored(points: Sequence[Point]) -> list[Point]:
    return [(2 * _CENTRE_X - x, y) for x, y in points]


def _curve(points: Sequence[Point], num_points: int = 60) -> list[Point]:
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


def _head_outline(look: Look, grow: float = 0.0) -> list[Point]:
    """Outline of head and jaw, `grow` pixels larger on each side."""
    right = []
    for y in np.linspace(_HEAD_TOP, _CHIN_Y, 80):
        if y < _CHEEK_Y:
            u = (_CHEEK_Y - y) / (_CHEEK_Y - _HEAD_TOP)
            half_width = _CHEEK_HALF_WIDTH * (1 - u**2.3) ** 0.5
        else:
            u = (y - _CHEEK_Y) / (_CHIN_Y - _CHEEK_Y)
            half_width = _CHEEK_HALF_WIDTH * (1 - (1 - look.jaw) * u**1.6) * (1 - u**4.5) ** 0.5
        stretch = 1 + grow / _CHEEK_HALF_WIDTH
        right.append((_CENTRE_X + half_width * stretch, _CHEEK_Y + (y - _CHEEK_Y) * stretch))
    return right + _mirrored(right)[::-1]


def _draw_head(look: Look) -> Image.Image:
    """Everything but the eyes and the mouth."""
    canvas = _Canvas(Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE)))
    _draw_back_hair(canvas, look)
    _draw_body(canvas, look)
    _draw_skin(canvas, look)
    _draw_nose(canvas, look)
    if look.beard:
        _draw_beard(canvas, look)
    _draw_front_hair(canvas, look)
    _draw_brows(canvas, look)
    if look.earrings:
        for x in (_CENTRE_X - 36, _CENTRE_X + 36):
            canvas.ellipse((x, 78), (1.7, 2.6), (240, 206, 110))
    return canvas.image


def _draw_back_hair(canvas: _Canvas, look: Look) -> None:
    dark = _shade(look.hair, 0.72)
    if look.hair_style == "long":
        side = _curve([(48, 5), (76, 12), (90, 40), (91, 78), (94, 112), (80, 124), (60, 118)])
        canvas.polygon(side + _mirrored(side)[::-1], dark)
    elif look.hair_style == "bob":
        side = _curve([(48, 5), (77, 12), (90, 42), (90, 74), (86, 94), (70, 97)])
        canvas.polygon(side + _mirrored(side)[::-1], dark)
    elif look.hair_style == "bun":
        canvas.ellipse((_CENTRE_X, 10), (14, 10), dark)
        canvas.ellipse((_CENTRE_X - 2, 8), (10, 6.5), look.hair)
        canvas.blend(_ellipse((_CENTRE_X - 4, 6), (5, 2.5)), _shade(look.hair, 1.5), 0.6, 1.2)
        canvas.polygon(_ellipse((_CENTRE_X, 48), (38.5, 40)), dark)
    elif look.hair_style != "bald":
        canvas.polygon(_ellipse((_CENTRE_X, 44), (37.5, 36)), dark)


def _draw_body(canvas: _Canvas, look: Look) -> None:
    shadow = _shade(look.skin, 0.72)
    shoulders = _curve([(48, 115), (66, 116.5), (84, 121), (93, 128)])
    canvas.polygon(shoulders + _mirrored(shoulders)[::-1], look.clothes)
    side = _curve([(62, 98), (62.5, 110), (66, 117)])
    neckline = _curve([(66, 117), (60, 123), (48, 126)])
    opening = side + neckline
    canvas.polygon(opening + _mirrored(opening)[::-1], _shade(look.skin, 0.88))
    canvas.blend(_ellipse((_CENTRE_X, 109), (17, 9)), shadow, 0.8, 2.0)
    canvas.line(neckline + _mirrored(neckline)[::-1], _shade(look.clothes, 0.65), 1.6)


def _draw_skin(canvas: _Canvas, look: Look) -> None:
    shadow = _mix(_shade(look.skin, 0.70), (120, 50, 40), 0.15)
    for x in (_CENTRE_X - 35.5, _CENTRE_X + 35.5):
        canvas.ellipse((x, 64), (4.6, 9), _shade(look.skin, 0.92))
        canvas.ellipse((x, 64), (2.2, 5.5), shadow)
    outline = _head_outline(look)
    canvas.polygon(outline, look.skin)
    inside = canvas.mask(outline)
    lit = canvas.image.copy()
    soft = _Canvas(lit)
    soft.blend(_ellipse((_CENTRE_X - 12, 34), (18, 13)), _shade(look.skin, 1.5), 0.5, 7)
    soft.blend(_ellipse((_CENTRE_X + 38, 70), (11, 48)), shadow, 0.75, 5)
    soft.blend(_ellipse((_CENTRE_X - 40, 78), (7, 40)), shadow, 0.5, 4)
    soft.blend(_ellipse((_CENTRE_X, 118), (30, 7)), shadow, 0.7, 4)
    blush = _mix(look.skin, (226, 82, 82), 0.55)
    for x in (_CENTRE_X - 21, _CENTRE_X + 21):
        soft.blend(_ellipse((x, 75), (8, 5.5)), blush, 0.5, 4)
        eye = (_CENTRE_X + math.copysign(_EYE_OFFSET, x - _CENTRE_X), _EYE_Y - 1)
        soft.blend(_ellipse(eye, (10, 7)), shadow, 0.45, 3)
    if look.freckles:
        for index in range(14):
            # A golden-angle spiral spreads the freckles without a visible pattern.
            radius, angle = 2.0 * math.sqrt(index + 1), 2.4 * index
            for x in (_CENTRE_X - 19, _CENTRE_X + 19):
                spot = (x + 1.2 * radius * math.cos(angle), 72 + 0.6 * radius * math.sin(angle))
                soft.blend(_ellipse(spot, (0.55, 0.55)), (190, 112, 74), 0.7)
    canvas.image.paste(lit, mask=inside)


def _draw_nose(canvas: _Canvas, look: Look) -> None:
    shadow = _mix(_shade(look.skin, 0.62), (110, 44, 36), 0.2)
    bridge = _curve([(45, 52), (43.5, 62), (42.2, 70), (43.5, 73)])
    canvas.blend([*bridge, (46.5, 72), (46, 60)], shadow, 0.28, 1.2)
    canvas.blend(_ellipse((48.3, 67), (2.2, 6)), _shade(look.skin, 1.6), 0.5, 1.8)
    tip = _curve([(41.8, 71), (43.2, 74.2), (48, 75.2), (52.8, 74.2), (54.2, 71)])
    canvas.blend([*tip, (48, 73.4)], shadow, 0.55, 0.7)
    for x in (_CENTRE_X - 3.4, _CENTRE_X + 3.4):
        canvas.blend(_ellipse((x, 73.6), (1.7, 0.9)), _shade(shadow, 0.6), 0.8, 0.4)


def _draw_beard(canvas: _Canvas, look: Look) -> None:
    outline = _head_outline(look)
    head = canvas.mask(outline)
    inner = _curve([(82, 60), (78, 76), (66, 80), (56, 77.5), (48, 78.5)])
    outer = [(48, 124), (90, 124), (92, 60)]
    beard = inner + [(48, 124)] + outer[1:]
    mask = ImageChops.lighter(canvas.mask(beard), canvas.mask(_mirrored(beard)))
    mask = ImageChops.multiply(mask.filter(ImageFilter.GaussianBlur(1.4 * SCALE)), head)
    mask = mask.point([round(value * look.beard) for value in range(256)])
    canvas.image.paste(_shade(look.hair, 0.9), mask=mask)


def _draw_front_hair(canvas: _Canvas, look: Look) -> None:
    hair, shine = look.hair, _shade(look.hair, 1.35)
    if look.hair_style in ("long", "bob"):
        parting = 40 if look.hair_style == "long" else 56
        left = _curve([(parting, 8), (26, 24), (15, 44), (12, 66), (8, 78)])
        right = _curve([(parting, 8), (70, 22), (81, 42), (84, 66), (88, 78)])
        left_outer = _curve([(5, 74), (6, 40), (22, 12), (parting, 4)])
        right_outer = _curve([(91, 74), (90, 40), (74, 12), (parting, 4)])
        canvas.polygon(left + left_outer, hair)
        canvas.polygon(right + right_outer, hair)
        if look.hair_style == "long":
            for lock in ([(10, 60), (6, 84), (8, 108), (15, 122), (20, 110), (15, 84)],):
                canvas.polygon(_curve(lock), hair)
                canvas.polygon(_mirrored(_curve(lock)), hair)
        canvas.blend(_curve([(14, 42), (22, 25), (34, 13), (30, 22), (19, 40)]), shine, 0.6, 1.5)
        canvas.blend(_curve([(82, 42), (76, 26), (64, 14), (68, 22), (77, 40)]), shine, 0.4, 1.5)
    elif look.hair_style == "bun":
        hairline = _curve([(11, 58), (15, 36), (30, 24), (48, 21), (66, 24), (81, 36), (85, 58)])
        crown = _curve([(87, 56), (85, 30), (68, 11), (48, 6), (28, 11), (11, 30), (9, 56)])
        canvas.polygon(hairline + crown, hair)
        for x in (24, 36, 60, 72):
            strand = _curve([(x, 25 + abs(x - 48) * 0.12), ((x + 48) / 2, 14), (48, 8)])
            canvas.blend([*strand, (strand[0][0] + 2, strand[0][1])], shine, 0.45, 0.8)
    elif look.hair_style == "short":
        fringe = _curve([(12, 54), (15, 38), (24, 29), (40, 30), (58, 24), (76, 30), (84, 54)])
        crown = _curve([(86, 50), (84, 28), (68, 9), (46, 5), (24, 11), (11, 30), (10, 50)])
        canvas.polygon(fringe + crown, hair)
        canvas.blend(_curve([(22, 22), (40, 11), (60, 10), (44, 16), (28, 24)]), shine, 0.6, 1.6)
    elif look.hair_style == "side":
        fringe = _curve([(12, 56), (16, 40), (22, 33), (34, 20), (58, 27), (80, 38), (84, 56)])
        crown = _curve([(86, 50), (86, 26), (68, 8), (42, 4), (22, 12), (11, 30), (10, 52)])
        canvas.polygon(fringe + crown, hair)
        for x in (46, 56, 66, 75):
            strand = _curve([(36, 18), ((36 + x) / 2, 13), (x, 24 + (x - 46) * 0.35)])
            canvas.line(strand, _shade(hair, 0.82), 0.6)
        canvas.blend(_curve([(40, 12), (56, 10), (70, 18), (56, 15)]), shine, 0.7, 1.4)
    else:  # Bald: closely cropped at the sides, a shine on top.
        inside = canvas.mask(_head_outline(look))
        cropped = _Canvas(canvas.image.copy())
        side = _curve([(11, 62), (12, 46), (18, 32), (17, 46), (15, 60)])
        for outline in (side, _mirrored(side)):
            cropped.blend(outline, hair, 0.8, 1.2)
        cropped.blend(_ellipse((38, 27), (11, 4.5)), _shade(look.skin, 1.7), 0.5, 2.5)
        canvas.image.paste(cropped.image, mask=inside)


def _draw_brows(canvas: _Canvas, look: Look) -> None:
    colour = _shade(look.hair, 0.75)
    upper = _curve([(23.5, 46.5), (30, 41.6), (40.5, 43.8)])
    brow = upper + [(x, y + look.brow * (0.55 + 0.45 * (x - 23.5) / 17)) for x, y in upper[::-1]]
    canvas.blend(brow, colour, 0.9, 0.25)
    canvas.blend(_mirrored(brow), colour, 0.9, 0.25)


def _draw_eyes(base: Image.Image, look: Look, closed: float) -> Image.Image:
    """Draws both eyes on the area of `_EYES_BOX`; `closed` is from 0 to 1."""
    canvas = _Canvas(base, _EYES_BOX[:2])
    lid = _shade(look.skin, 0.86)
    line = _mix(_shade(look.hair, 0.4), (30, 18, 16), 0.6)
    for side in (-1, 1):
        x = _CENTRE_X + side * _EYE_OFFSET
        outer, inner = x + side * _EYE_HALF_WIDTH, x - side * _EYE_HALF_WIDTH
        top = _EYE_Y - _EYE_HALF_HEIGHT * (1 - 1.7 * closed)
        upper = _curve([(inner, _EYE_Y + 1.2), (x, top), (outer, _EYE_Y - 0.6)])
        lower = _curve([(outer, _EYE_Y - 0.6), (x, _EYE_Y + 4.2), (inner, _EYE_Y + 1.2)])
        if closed < 1:
            ball = base.copy()
            eye = _Canvas(ball, _EYES_BOX[:2])
            eye.polygon(upper + lower, (250, 247, 243))
            eye.blend(_ellipse((x, _EYE_Y - 4.5), (9, 3)), (120, 100, 100), 0.5, 0.8)
            eye.ellipse((x, _EYE_Y - 0.4), (4.6, 4.6), _shade(look.iris, 0.6))
            eye.ellipse((x, _EYE_Y - 0.2), (3.9, 3.9), look.iris)
            eye.ellipse((x, _EYE_Y - 0.4), (2.1, 2.1), (18, 12, 12))
            eye.ellipse((x - 1.5, _EYE_Y - 2.0), (1.2, 1.2), (255, 255, 255))
            base.paste(ball, mask=canvas.mask(upper + lower))
        if closed > 0:
            open_top = _curve(
                [(outer, _EYE_Y - 0.6), (x, _EYE_Y - _EYE_HALF_HEIGHT), (inner, _EYE_Y + 1.2)]
            )
            canvas.polygon(upper + open_top, lid)
        canvas.line(upper, line, look.lashes)
        if look.lashes > 1:
            canvas.line([(outer, _EYE_Y - 0.6), (outer + side * 1.6, _EYE_Y - 2.4)], line, 0.9)
        canvas.line(lower[4:-4], _shade(look.skin, 0.62), 0.4)
        crease = [(px, py - 2.2 + closed) for px, py in upper[4:-4]]
        canvas.line(crease, _shade(look.skin, 0.68), 0.5)
        if look.glasses:
            rim = _ellipse((x, _EYE_Y + 0.8), (11.2, 8.6))
            canvas.line(rim, (52, 44, 48), 1.1)
            canvas.line([(x + side * 11.2, _EYE_Y), (x + side * 13, _EYE_Y - 1)], (52, 44, 48), 1.1)
            canvas.line([(x - side * 11.2, _EYE_Y), (_CENTRE_X, _EYE_Y - 1.2)], (52, 44, 48), 1.1)
    return base


def _draw_mouth(base: Image.Image, look: Look, mouth: Viseme) -> Image.Image:
    """Draws the lips and what shows between them on the area of `MOUTH_BOX`."""
    canvas = _Canvas(base, MOUTH_BOX[:2])
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
    left, right = _CENTRE_X - half_width, _CENTRE_X + half_width
    xs = np.linspace(left, right, len(across))
    lip_xs = _CENTRE_X + (half_width + 0.8) * across

    def contour(xs: np.ndarray, ys: np.ndarray) -> list[Point]:
        return list(zip(xs.tolist(), ys.tolist(), strict=True))

    # The corners turn up a little when the mouth is shut: a friendly face at rest.
    line_ys = corner_y - (1 - mouth.openness) * np.abs(across) ** 3
    gap_upper = contour(xs, line_ys - rise * arch)
    gap_lower = contour(xs, line_ys + drop * arch)[::-1]
    top = contour(lip_xs, line_ys - rise * arch - upper_lip * arch * cupids_bow)
    bottom = contour(lip_xs, line_ys + (drop + lower_lip) * arch)[::-1]

    beneath = look.skin if not look.beard else _mix(look.skin, look.hair, look.beard)
    under_lip = (_CENTRE_X, min(gap_bottom + lower_lip + 1.4, MOUTH_BOX[3] - 2))
    canvas.blend(_ellipse(under_lip, (0.5 * half_width, 1.0)), _shade(beneath, 0.7), 0.6)
    canvas.polygon(top + gap_upper[::-1], _shade(look.lips, 0.86))
    canvas.polygon(bottom + gap_lower[::-1], look.lips)
    shine = (_CENTRE_X - 1.5, gap_bottom + 0.45 * lower_lip)
    canvas.ellipse(shine, (0.32 * half_width, 0.18 * lower_lip), _shade(look.lips, 1.28))

    inside = base.copy()
    interior = _Canvas(inside, MOUTH_BOX[:2])
    interior.polygon(top + bottom, _MOUTH_INTERIOR)
    tongue_y = gap_bottom + 2.5 - (gap + 1.0) * 0.75 * mouth.tongue
    interior.ellipse((_CENTRE_X, tongue_y + 2.0), (0.62 * half_width, 4.5), _TONGUE)
    teeth_bottom = gap_top + 0.3 + min(gap, 1.2 + 3.6 * mouth.teeth)
    if mouth.teeth > 0:
        teeth = [(left, gap_top - 2), (right, gap_top - 2), (right, teeth_bottom - 0.6)]
        teeth += [(_CENTRE_X, teeth_bottom), (left, teeth_bottom - 0.6)]
        interior.polygon(teeth, _TEETH)
    base.paste(inside, mask=canvas.mask(gap_upper + gap_lower))
    seam = _shade(look.lips, 0.42)
    canvas.line(gap_upper, seam, 0.6)
    if gap < 1.0:
        canvas.line(gap_lower, seam, 0.6)
    return base
