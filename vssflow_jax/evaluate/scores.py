"""Rows of clips to what an evaluation says: `metrics.json`, `per_clip.csv`, lists of sounds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vssflow_jax.evaluate import kaldi, rows
from vssflow_jax.evaluate.benchmark import Benchmark, Place
from vssflow_jax.evaluate.judged import Judged, Score
from vssflow_jax.evaluate.metrics.bootstrap import interval
from vssflow_jax.evaluate.metrics.registry import METRICS, Metric
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import write_atomically, write_csv

METRICS_FILE, PER_CLIP = "metrics.json", "per_clip.csv"


def sum_up(
    out: Path,
    benchmark: Benchmark,
    judged: Judged,
    places: Sequence[Place],
    settings: Mapping[str, Any],
    lists: str,
) -> dict[str, Any]:
    """Write the scores of all rows into the files that docs/evaluation.md lists.

    Args:
      out: folder of the evaluation.
      benchmark: says what is measured.
      judged: what networks say of the clips.
      places: the clips, in their order.
      settings: what `evaluation.json` holds.
      lists: kind of the lists of sounds, a key of `kaldi.LISTS`.

    Returns:
      what `metrics.json` holds.

    Raises:
      UserError: all clips failed.
    """
    order = {(place.task, place.index): number for number, place in enumerate(places)}
    found = sorted(rows.read(out), key=lambda row: order[row.task, row.index])
    good = [row for row in found if not row.failed]
    if not good:
        raise UserError(f"{out}: all {len(found)} clips failed; the first: {found[0].failed}")
    absent = benchmark.absent
    absent |= judged.add_words(benchmark, good)
    # By name: the last digits of a sum depend on the order.
    named = sorted(good, key=lambda row: row.clip_id)
    of_sets, missing = judged.scores(benchmark, named)
    # Those that networks give to single clips are among the rows' own now.
    names = [name for name in benchmark.metrics if not METRICS[name].of_rows]
    timed = [row.generate_sec for row in good if row.generate_sec is not None]
    scores = clip_scores(named, names, benchmark.measured) | of_sets
    absent |= missing
    silent = [name for name in benchmark.metrics if name not in scores and name not in absent]
    metrics = {
        "benchmark": benchmark.name,
        **{name: settings[name] for name in ("step", "sampler", "remarks") if name in settings},
        "clips": len(good),
        "generate_sec_per_clip": float(np.mean(timed)) if timed else None,
        "metrics": scores,
        "networks": judged.networks(benchmark),
        "words": judged.words(benchmark, good),
        "absent": absent | {name: _why_of_no_clip(METRICS[name], good) for name in silent},
        "failed": {
            row.clip_id or f"{row.task} {row.index}": row.failed for row in found if row.failed
        },
        "problems": {row.clip_id: row.problems for row in good if row.problems},
    }
    rows.write_scored(out, good)
    write_per_clip(out / PER_CLIP, good)
    rows.write_table(out, good)
    write_atomically(out / METRICS_FILE, json.dumps(metrics, indent=2) + "\n")
    kaldi.write_lists(out, good, lists)
    return metrics


def _why_of_no_clip(metric: Metric, rows: Sequence[Row]) -> str:
    """Why no clip has a metric that could be had."""
    its_own = [row for row in rows if metric.is_of(row.task)]
    if not its_own:
        return "no clip is of its tasks"
    if metric.of_words and not any(row.transcript for row in its_own):
        return "no clip has a transcript"
    if metric.of_features:
        return "no clip could be measured (see problems), or eval.features names those of others"
    return "no clip has what this metric needs, such as times of events; or see problems"


def clip_scores(
    rows: Sequence[Row], names: Sequence[str], versions: Sequence[str]
) -> dict[str, dict[str, Score]]:
    """name -> version -> score, of those that clips have.

    A score is the ratio of the sums of what clips add above and below.
    """
    found: dict[str, dict[str, Score]] = {}
    for name in names:
        for version in versions:
            fractions = [
                row.scores[version][name] for row in rows if name in row.scores.get(version, {})
            ]
            if not sum(below for _, below in fractions):
                continue
            above, below = np.array(fractions, np.float64).T
            low, high = interval(above, below)
            value = float(above.sum() / below.sum())
            score: Score = {"value": value, "low": low, "high": high, "clips": len(fractions)}
            found.setdefault(name, {})[version] = score
    return found


def write_per_clip(path: Path, rows: Sequence[Row]) -> None:
    """Write a line of scores for each clip that did not fail."""
    names = sorted({name for row in rows for name in row.generated_scores})
    lines = [
        {
            "clip_id": row.clip_id,
            "task": row.task,
            "transcript": row.transcript,
            "recognised": row.recognised.get("generated", ""),
            **{name: f"{value:.4f}" for name, value in row.generated_scores.items()},
        }
        for row in rows
    ]
    write_csv(path, ["clip_id", "task", "transcript", "recognised", *names], lines)
