"""How the presenters look, one for each voice."""

from typing import Final, NamedTuple

from data.demo.canvas import Colour


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
        jaw=0.87,
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
