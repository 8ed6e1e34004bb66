"""What the pages of evaluations are made of: scores side by side, and clips."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from vssflow_jax.evaluate.metrics.labels import ABSENT, VERSIONS, Label
from vssflow_jax.evaluate.metrics.published import PUBLISHED, Publication
from vssflow_jax.evaluate.metrics.registry import in_order, label
from vssflow_jax.html import page
from vssflow_jax.html.clip_view import ClipView

Score = Mapping[str, Any]
"""Value, ends of its interval, clips and more, as `metrics.json` has them."""
Scores = Mapping[str, Mapping[str, Score]]
"""Metric -> version -> score."""


def write(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Write the page that a template in this folder makes of `values`."""
    page.write(
        path, Path(__file__).with_name(template), {**values, "label_of": label, "notes_of": notes}
    )


# ------------------------------------------------------------------------------------------ scores


def versions(scores: Scores) -> dict[str, tuple[str, str]]:
    """Those that any score is of -> heading and meaning: known ones first, in their order."""
    there = dict.fromkeys(version for values in scores.values() for version in values)
    known = {version: VERSIONS[version] for version in VERSIONS if version in there}
    return known | {version: (version, "") for version in there if version not in VERSIONS}


@dataclasses.dataclass(frozen=True)
class ScoreRow:
    """The scores of one metric side by side.

    Attributes:
      metric: its name.
      scores: one for each column; None where there is none.
      chosen: whether each is set off.
    """

    metric: str
    scores: Sequence[Score | None]
    chosen: Sequence[bool]

    @property
    def label(self) -> Label:
        """How the metric is called, written and judged."""
        return label(self.metric)

    @property
    def clips(self) -> int:
        """Of the score that is of most."""
        return max(score["clips"] for score in self.scores if score)

    @property
    def whiskers(self) -> list[list[float] | None]:
        """Low end, value and high end of each score on a line that has them all, in percent of it.

        A score without an interval has no length. Empty where fewer than two scores are there, as
        nothing would be seen.
        """
        ends = [
            _ends(score) if score and math.isfinite(score["value"]) else None
            for score in self.scores
        ]
        drawn = [one for one in ends if one]
        if len(drawn) < 2:
            return []
        axis = page.Axis(min(low for low, _, _ in drawn), max(high for _, _, high in drawn))
        return [axis.percent(np.array(one)).tolist() if one else None for one in ends]


def _ends(score: Score) -> tuple[float, float, float]:
    value = score["value"]
    if score["low"] is None or score["high"] is None:
        return value, value, value
    return score["low"], value, score["high"]


def notes(label: Label, score: Score | None) -> list[str]:
    """What stands below a score, beside its interval; nothing for most."""
    if not score:
        return []
    found = [f"seeds {spread}"] if (spread := _over_seeds(label, score)) else []
    if "infinity" in score:
        infinity, r_squared = label.number(score["infinity"]), score["r_squared"]
        found.append(f"at infinity {infinity}, R\N{SUPERSCRIPT TWO} {r_squared:.2f}")
    return found


def _over_seeds(label: Label, score: Score) -> str:
    """The lowest and the highest value of a seed; "" for fewer than two seeds."""
    values = [value for value in score.get("by_seed", {}).values() if math.isfinite(value)]
    return f"{label.number(min(values))} to {label.number(max(values))}" if values[1:] else ""


def warnings(scores: Scores) -> list[tuple[str, str]]:
    """Metric, and why its scores are to be trusted less."""
    found = {
        (metric, score["warning"]): None
        for metric in in_order(scores)
        for score in scores[metric].values()
        if "warning" in score
    }
    return [*found]


def markdown(scores: Scores) -> str:
    """A line for each metric and a column for each version; "" if nothing was measured.

    Where there are several seeds, a second line has the lowest and the highest value of one.

    Metrics go by the names, and values by the scale, that `metrics.json` has, rounded as on the
    page. The columns are aligned, so that it is a table in a terminal too.
    """
    columns = versions(scores)
    lines = [["", *(heading for heading, _ in columns.values())]]
    for metric in in_order(scores):
        known, values = label(metric).as_stored, scores[metric]
        name = f"`{metric}` {known.arrow}".rstrip()
        lines.append([name, *(known.number(values.get(v, {}).get("value")) for v in columns)])
        spreads = [_over_seeds(known, values.get(version, {})) for version in columns]
        if any(spreads):
            lines.append(["lowest to highest seed", *spreads])
    if len(lines) == 1:
        return ""
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    rows = [[name.ljust(first), *map(str.rjust, numbers, others)] for name, *numbers in lines]
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def beside_published(
    benchmark: str, systems: Mapping[str, Scores]
) -> list[tuple[Publication, dict[str, Sequence[float | None]]]]:
    """Tables of figures that papers print for a benchmark, below those of some evaluations."""
    return [
        (
            table,
            {
                **{
                    name: [
                        scores.get(metric, {}).get("generated", {}).get("value")
                        for metric in table.metrics
                    ]
                    for name, scores in systems.items()
                },
                **table.systems,
            },
        )
        for table in PUBLISHED.get(benchmark, ())
    ]


def flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as "section.name" -> text."""
    leaves = traverse_util.flatten_dict(dict(settings), sep=".")
    return {name: ABSENT if value in (None, "") else str(value) for name, value in leaves.items()}


# ------------------------------------------------------------------------------------------- clips

Words = list[tuple[str, bool]]
"""Words, and whether each is marked."""


@dataclasses.dataclass(frozen=True)
class Card:
    """One clip.

    Attributes:
      clip_id: its name.
      main_scores: what it is ordered by: name -> text, above its sounds.
      view: its sounds.
      said: what was said or recognised, by what that is.
      other_scores: name -> text, below.
    """

    clip_id: str
    main_scores: Mapping[str, str]
    view: ClipView
    said: Mapping[str, Words]
    other_scores: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Section:
    """The clips of a task.

    Attributes:
      task: the task.
      heading: heading of the section.
      columns: heading -> clips below one another; the columns stand side by side.
      rest: heading -> clips in rows, below the columns.
    """

    task: str
    heading: str
    columns: Mapping[str, Sequence[Card]]
    rest: Mapping[str, Sequence[Card]]


def unmarked(text: str) -> Words:
    """The words of a text."""
    return [(word, False) for word in text.split()]
