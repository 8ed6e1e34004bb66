"""Tables that the pages of evaluations have in common."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from vssflow_jax import page
from vssflow_jax.evaluate.labels import ABSENT, Label


@dataclasses.dataclass(frozen=True)
class Table:
    """Texts by name, in columns."""

    columns: Sequence[str]
    rows: Mapping[str, Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Cell:
    """A score as it is read: the number and its interval, which may be ""."""

    number: str
    interval: str = ""

    @classmethod
    def of(cls, label: Label, score: Mapping[str, Any] | None) -> "Cell":
        """`score` as `metrics.json` has it of one version; None where there is none."""
        if score is None:
            return cls(ABSENT)
        return cls(label.number(score["value"]), label.interval(score["low"], score["high"]))


@dataclasses.dataclass(frozen=True)
class Whisker:
    """A score and its interval on a line that has all scores of a row, in percent of it."""

    low: float
    value: float
    high: float


def whiskers(scores: Sequence[Mapping[str, Any] | None]) -> list[Whisker | None]:
    """One for each score that is there, without length if it has no interval.

    Empty where fewer than two are there, as nothing would be seen.
    """
    ends = [_ends(score) if score and math.isfinite(score["value"]) else None for score in scores]
    drawn = [one for one in ends if one]
    if len(drawn) < 2:
        return []
    axis = page.Axis(min(low for low, _, _ in drawn), max(high for _, _, high in drawn))
    return [Whisker(*axis.percent(np.array(one)).tolist()) if one else None for one in ends]


def _ends(score: Mapping[str, Any]) -> tuple[float, float, float]:
    value = score["value"]
    if score["low"] is None or score["high"] is None:
        return value, value, value
    return score["low"], value, score["high"]


def flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as "section.name" -> text."""
    leaves = traverse_util.flatten_dict(dict(settings), sep=".")
    return {name: ABSENT if value in (None, "") else str(value) for name, value in leaves.items()}
