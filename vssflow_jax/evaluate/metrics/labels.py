"""How each metric is called, written and judged on the pages of evaluations."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Final, Literal

ABSENT: Final = "-"
_MINUS: Final = "\N{MINUS SIGN}"
_ARROWS: Final = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}", "": ""}

VERSIONS: Final[Mapping[str, tuple[str, str]]] = {
    "generated": ("generated", "the model's sound for each clip."),
    "ground_truth": (
        "ground truth",
        "the original sound, measured the same way: the best that can be hoped for.",
    ),
    "codec": (
        "codec",
        "the original sound encoded, decoded and turned back into a waveform: what the codec and "
        "vocoder alone cost.",
    ),
    "shuffled": (
        "shuffled",
        "the same model given another clip's conditions: what it scores without looking at the "
        "right one.",
    ),
}
"""Version -> heading of its column, and what it means. In the order to show."""

OF_SEEDS: Final = ("generated", "shuffled")
"""Versions that are made from noise, so that another seed gives other sounds."""


@dataclasses.dataclass(frozen=True)
class Label:
    """How a metric is called, written and judged.

    Attributes:
      name: what it is called.
      better: whether lower or higher values are better; "" if nobody can say.
      explanation: what it is; "" if the name says it.
      unit: unit of the numbers shown; "" for a bare number.
      scale: from the value that is stored to that which is shown.
      decimals: shown; None for four significant digits.
      task: the task whose clips alone have the metric; "" for all that can have it.
    """

    name: str
    better: Literal["lower", "higher", ""] = ""
    explanation: str = ""
    unit: str = ""
    scale: float = 1.0
    decimals: int | None = None
    task: str = ""

    @property
    def title(self) -> str:
        """The name, and the clips that it is of."""
        return f"{self.name}, {self.task} clips" if self.task else self.name

    @property
    def arrow(self) -> str:
        """Up where higher values are better, down where lower ones are; "" if nobody can say."""
        return _ARROWS[self.better]

    @property
    def as_stored(self) -> "Label":
        """For numbers on the scale that they are stored in, to as many significant digits."""
        if self.decimals is None or self.scale == 1:
            return self
        decimals = self.decimals + round(math.log10(self.scale))
        return dataclasses.replace(self, unit="", scale=1.0, decimals=decimals)

    def number(self, value: float | None, *, sign: bool = False) -> str:
        """`value` as people read it, without unit; "-" for one that is missing or not finite.

        Args:
          value: as stored.
          sign: whether a plus is written too, as for differences.
        """
        if value is None or not math.isfinite(value):
            return ABSENT
        digits = ".4g" if self.decimals is None else f".{self.decimals}f"
        # "z": what is rounded to zero has no sign of its own.
        return format(value * self.scale, f"{'+' if sign else ''}z{digits}").replace("-", _MINUS)

    def text(self, value: float | None) -> str:
        """`value` as people read it, with its unit."""
        number = self.number(value)
        return (
            f"{number}\N{NO-BREAK SPACE}{self.unit}" if self.unit and number != ABSENT else number
        )

    def interval(self, low: float | None, high: float | None, *, sign: bool = False) -> str:
        """An interval without unit; "" where none is known."""
        if low is None or high is None or not math.isfinite(low + high):
            return ""
        return f"[{self.number(low, sign=sign)}, {self.number(high, sign=sign)}]"

    def is_better(self, difference: float) -> bool | None:
        """Whether a score that differs by `difference` is better; None if equal or unknown."""
        if not self.better or not difference:
            return None
        return (difference > 0) == (self.better == "higher")
