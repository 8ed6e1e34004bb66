"""Rows of clips to what an evaluation says: `metrics.json`, `per_clip.csv`, Kaldi's lists."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from vssflow_jax.evaluate import kaldi, rows
from vssflow_jax.evaluate.clips import Evaluation
from vssflow_jax.evaluate.metrics.bootstrap import interval
from vssflow_jax.evaluate.metrics.registry import METRICS
from vssflow_jax.evaluate.networks.extract import NETWORKS, extract
from vssflow_jax.evaluate.networks.files import Backbones
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import write_atomically, write_csv

METRICS_FILE, PER_CLIP = "metrics.json", "per_clip.csv"
_SOUNDS = {"generated": "wav", "reference": "reference"}  # features -> the folder of their sounds

Score = dict[str, Any]
"""The value, the ends of its interval, which are None where there is none, and the clips."""


def sum_up(evaluation: Evaluation, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write the scores of all rows: `metrics.json`, `per_clip.csv` and Kaldi's lists."""
    benchmark, out = evaluation.benchmark, evaluation.out
    order = {(place.task, place.index): number for number, place in enumerate(evaluation.places)}
    found = sorted(rows.read(out), key=lambda row: order[row.task, row.index])
    good = [row for row in found if not row.failed]
    if not good:
        raise UserError(f"{out}: all {len(found)} clips failed; the first: {found[0].failed}")
    of_sets, missing = _set_scores(evaluation, good)
    # Those that networks give to single clips are among the rows' own now.
    names = [name for name in benchmark.metrics if not METRICS[name].of_rows]
    timed = [row.generate_sec for row in good if row.generate_sec is not None]
    metrics = {
        "benchmark": benchmark.name,
        "step": settings["step"],
        "clips": len(good),
        "sampler": settings["sampler"],
        "generate_sec_per_clip": float(np.mean(timed)) if timed else None,
        "metrics": clip_scores(good, names, benchmark.measured) | of_sets,
        "absent": benchmark.absent | missing,
        "failed": {
            row.clip_id or f"{row.task} {row.index}": row.failed for row in found if row.failed
        },
        "problems": {row.clip_id: row.problems for row in good if row.problems},
    }
    _write_per_clip(out / PER_CLIP, good)
    kaldi.write_lists(out / "wav", good)
    write_atomically(out / METRICS_FILE, json.dumps(metrics, indent=2) + "\n")
    return metrics


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


def _set_scores(
    evaluation: Evaluation, good: Sequence[Row]
) -> tuple[dict[str, dict[str, Score]], dict[str, str]]:
    """Scores of all clips together, and how to get those that are not there.

    They have no intervals, which `metrics.bootstrap` explains. Those that networks give to single
    clips go into the rows.
    """
    networks = backbones(evaluation.config)
    named = evaluation.config.eval.features
    folders = {kind: Path(named[kind] or evaluation.out / "features" / kind) for kind in _SOUNDS}
    unheard = _extract(evaluation, networks, folders)
    by_id = {row.clip_id: row for row in good}
    for name, reason in unheard.items():
        by_id[Path(name).stem].problems["features"] = reason
    found: dict[str, dict[str, Score]] = {}
    absent: dict[str, str] = {}
    for name in evaluation.benchmark.metrics:
        metric = METRICS[name]
        values: Mapping[str, float] = {}
        clips = len(good)
        try:
            if metric.of_rows:
                values = metric.of_rows(good, evaluation.benchmark.measured)
            elif metric.of_features:
                score = metric.of_features.measure(
                    folders["generated"], folders["reference"], networks
                )
                if isinstance(score, float):
                    values, clips = {"generated": score}, len(good) - len(unheard)
                else:
                    for clip_id in score.keys() & by_id.keys():
                        by_id[clip_id].scores["generated"][name] = (score[clip_id], 1.0)
        except UserError as error:
            absent[name] = str(error)
        if values:
            found[name] = {
                version: {"value": value, "low": None, "high": None, "clips": clips}
                for version, value in values.items()
            }
    return found, absent


def _extract(
    evaluation: Evaluation, networks: Backbones, folders: Mapping[str, Path]
) -> dict[str, str]:
    """Fill the folders that the config does not name, by networks at hand.

    Returns:
      Name of a file that could not be heard -> why.
    """
    own = {name: networks[name] for name in NETWORKS if name in networks}
    unheard: dict[str, str] = {}
    for kind, sounds in _SOUNDS.items():
        if own and not evaluation.config.eval.features[kind]:
            sounds_dir, clip_sec = evaluation.out / sounds, evaluation.benchmark.clip_sec
            try:
                unheard |= extract(sounds_dir, folders[kind], own, clip_sec)
            except UserError as error:
                print(f"no features of the {kind} sounds: {error}", file=sys.stderr)
    return unheard


def backbones(config: ml_collections.ConfigDict) -> dict[str, Path]:
    """The networks whose files the config names.

    Raises:
      UserError: there is no such file.
    """
    found = {name: Path(path) for name, path in config.eval.backbones.items() if path}
    for name, path in found.items():
        if not path.is_file():
            raise UserError(f"eval.backbones.{name} is {path}; there is no such file")
    return found


def _write_per_clip(path: Path, rows: Sequence[Row]) -> None:
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
