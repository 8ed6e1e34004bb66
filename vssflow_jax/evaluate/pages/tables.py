"""Tables of scores, on the pages of evaluations and in print."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from vssflow_jax.evaluate.metrics.labels import ABSENT, VERSIONS, Label
from vssflow_jax.evaluate.metrics.registry import in_order, label
from vssflow_jax.html import page

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Metric -> version -> value, ends of its interval, and clips, as `metrics.json` has them."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Texts by name, in columns."""

    columns: Sequence[str]
    rows: Mapping[str, Sequence[str]]


def versions(scores: Scores) -> list[str]:
    """Those that any score is of: known ones first, in their order."""
    there = dict.fromkeys(version for values in scores.values() for version in values)
    known = [version for version in VERSIONS if version in there]
    return known + [version for version in there if version not in VERSIONS]


def version_heading(version: str) -> str:
    """What the column of a version is called."""
    return VERSIONS[version][0] if version in VERSIONS else version


def markdown(scores: Scores) -> str:
    """A line for each metric and a column for each version; "" if nothing was measured.

    Metrics go by the names, and values by the scale, that `metrics.json` has, rounded as on the
    page. The columns are aligned, so that it is a table in a terminal too.
    """
    columns = versions(scores)
    lines = [["", *map(version_heading, columns)]]
    for metric in in_order(scores):
        known, values = label(metric).as_stored, scores[metric]
        name = f"`{metric}` {known.arrow}".rstrip()
        lines.append([name, *(known.number(values.get(v, {}).get("value")) for v in columns)])
    if len(lines) == 1:
        return ""
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    rows = [[name.ljust(first), *map(str.rjust, numbers, others)] for name, *numbers in lines]
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


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
