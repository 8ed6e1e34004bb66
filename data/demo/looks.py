"""How the presenters look, one for each voice."""

from typing import Any, Final, NamedTuple

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


def _look(colours: str, hair_style: str, jaw: float, **others: Any) -> Look:
    """A look from the colours of skin, hair, iris, lips and clothes, in hexadecimal digits."""
    skin, hair, iris, lips, clothes = map(_colour, colours.split())
    return Look(skin, hair, iris, lips, clothes, hair_style, jaw, **others)


def _colour(digits: str) -> Colour:
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


LOOKS: Final = {
    "f2": _look("f4caac 7a4624 56844a cc5258 2e7880", "long", jaw=0.72, earrings=True),
    "f3": _look("b07652 3e2a2c 603a20 a63442 e09a2c", "bob", jaw=0.74, brow=2.0),
    "f5": _look("fad8c0 c45222 4276a8 d6605a 6e4ea0", "bun", jaw=0.7, brow=1.6, freckles=True),
    "klatt": _look(
        "e8b894 4a362c 64482c be685e 345496", "short", jaw=0.86, beard=0.62, brow=2.6, lashes=0.9
    ),
    "klatt4": _look(
        "eec0a6 b0b0b6 547896 c0706a 8c3038", "side", jaw=0.87, brow=2.3, lashes=0.8, glasses=True
    ),
    "m6": _look(
        "7a4e36 342622 462a1a 924e4a 468c54", "bald", jaw=0.87, beard=0.8, brow=2.8, lashes=0.9
    ),
}
"""One look for each voice of `speech.VOICES`."""
