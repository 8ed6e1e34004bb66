"""Rows of clips to what an evaluation says: `metrics.json`, `per_clip.csv`, Kaldi's lists."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from vssflow_jax.evaluate import kaldi, rows, summary
from vssflow_jax.evaluate.benchmark import Benchmark, Place
from vssflow_jax.evaluate.metrics.registry import METRICS
from vssflow_jax.evaluate.networks.extract import NETWORKS, extract
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import write_atomically

METRICS_FILE, PER_CLIP = "metrics.json", "per_clip.csv"


def sum_up(
    config: ml_collections.ConfigDict,
    benchmark: Benchmark,
    out: Path,
    settings: Mapping[str, Any],
    places: Sequence[Place],
) -> dict[str, Any]:
    """Write the scores of all rows: `metrics.json`, `per_clip.csv` and Kaldi's lists."""
    order = {(place.task, place.index): number for number, place in enumerate(places)}
    found = sorted(rows.read(out), key=lambda row: order[row.task, row.index])
    good = [row for row in found if not row.failed]
    if not good:
        raise UserError(f"{out}: all {len(found)} clips failed; the first: {found[0].failed}")
    of_sets, missing = _set_scores(config, benchmark, out, good)
    # Those that networks give to single clips are among the rows' own now.
    names = [name for name in benchmark.metrics if not METRICS[name].of_rows]
    scores = summary.scores(good, names, benchmark.measured)
    timed = [row.generate_sec for row in good if row.generate_sec is not None]
    metrics = {
        "benchmark": benchmark.name,
        "step": settings["step"],
        "clips": len(good),
        "sampler": settings["sampler"],
        "generate_sec_per_clip": float(np.mean(timed)) if timed else None,
        "metrics": scores | of_sets,
        "absent": benchmark.absent | missing,
        "failed": {
            row.clip_id or f"{row.task} {row.index}": row.failed for row in found if row.failed
        },
        "problems": {row.clip_id: row.problems for row in good if row.problems},
    }
    summary.write_per_clip(out / PER_CLIP, good)
    kaldi.write_lists(out / "wav", good)
    write_atomically(out / METRICS_FILE, json.dumps(metrics, indent=2) + "\n")
    return metrics


def _set_scores(
    config: ml_collections.ConfigDict,
    benchmark: Benchmark,
    out: Path,
    good: Sequence[Row],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Scores of all clips together, and how to get those that are not there.

    Those that networks give to single clips go into the rows.
    """
    found: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for name in benchmark.metrics:
        if of_rows := METRICS[name].of_rows:
            try:
                values = of_rows(good, benchmark.measured)
                found[name] = summary.without_interval(values, len(good))
            except UserError as error:
                absent[name] = str(error)
    networks = backbones(config)
    folders = {
        kind: Path(config.eval.features[kind] or out / "features" / kind)
        for kind in ("generated", "reference")
    }
    extractable = {name: networks[name] for name in NETWORKS if name in networks}
    unheard: dict[str, str] = {}
    if extractable:
        for kind, sounds in (("generated", "wav"), ("reference", "reference")):
            if config.eval.features[kind]:
                continue
            try:
                unheard |= extract(
                    out / sounds, folders[kind], extractable, benchmark.clip_sec or None
                )
            except UserError as error:
                print(f"no features of the {kind} sounds: {error}", file=sys.stderr)
    by_id = {row.clip_id: row for row in good}
    for name, reason in unheard.items():
        by_id[Path(name).stem].problems["features"] = reason
    for name in benchmark.metrics:
        of_features = METRICS[name].of_features
        if not of_features:
            continue
        try:
            score = of_features.measure(folders["generated"], folders["reference"], networks)
        except UserError as error:
            absent[name] = str(error)
            continue
        if isinstance(score, float):
            clips = len(good) - len(unheard)
            found[name] = summary.without_interval({"generated": score}, clips)
            continue
        for clip_id, value in score.items():
            if clip_id in by_id:
                by_id[clip_id].scores["generated"][name] = (value, 1.0)
    return found, absent


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
