"""An evaluation by several seeds of the noise: each by itself, then all of them together.

How far a score can be trusted depends on the clips that there are, and on the noise that they were
generated from. Each seed has a folder of its own, with a whole evaluation in it.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from vssflow_jax.evaluate import evaluator, rows
from vssflow_jax.evaluate.benchmark import Benchmark, Place
from vssflow_jax.evaluate.judged import Judged, Score
from vssflow_jax.evaluate.metrics.bootstrap import crossed_interval
from vssflow_jax.evaluate.metrics.labels import OF_SEEDS
from vssflow_jax.evaluate.metrics.registry import METRICS
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.evaluate.scores import METRICS_FILE, PER_CLIP, write_per_clip
from vssflow_jax.evaluate.settings import claim
from vssflow_jax.parallel import distributed
from vssflow_jax.utils.files import write_atomically


def evaluate(
    config: ml_collections.ConfigDict,
    benchmark: Benchmark,
    out: Path,
    run: Path | None,
    step: int | None = None,
    *,
    replace: bool = False,
) -> dict[str, Any]:
    """Evaluate a model by each of `eval.seeds`, or by `eval.seed` alone where these are none.

    Args:
      out: gets a folder `seed-N` for each seed, with what `evaluator.evaluate` leaves, and
        `metrics.json`, `evaluation.json`, `per_clip.csv` and `report.html` of all. Seeds that are
        there already are not evaluated again.

    Other arguments, what is returned, and errors are those of `evaluator.evaluate`.
    """
    seeds = config.eval.seeds
    if not seeds:
        return evaluator.evaluate(config, benchmark, out, run, step, replace=replace)
    subject = evaluator.Subject.restore(config, benchmark, run, step)
    settings = subject.settings | {"seed": [*seeds]}
    if distributed.is_main():
        claim(out, settings, replace)
        (out / METRICS_FILE).unlink(missing_ok=True)  # it may be of fewer seeds
    distributed.wait_for_all(f"claimed {out}")
    renderer = subject.renderer()
    found = {}
    for seed in seeds:
        if distributed.is_main():
            print(f"\nseed {seed}")
        own = subject.with_seed(seed)
        found[seed] = own.evaluate(renderer, rows.of_seed(out, seed), replace=replace)
    metrics = {}
    if distributed.is_main():
        metrics = _sum_up(subject, out, found)
        evaluation = subject.evaluation(rows.of_seed(out, seeds[0]))
        evaluator.write_page(evaluation, out / evaluator.REPORT, settings, metrics, run)
        # Last, as it says that all is there.
        write_atomically(out / METRICS_FILE, json.dumps(metrics, indent=2) + "\n")
    distributed.wait_for_all(f"shown {out}")
    return metrics


def _sum_up(
    subject: evaluator.Subject, out: Path, found: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Write `per_clip.csv` of all seeds, and return what `metrics.json` says of them.

    Args:
      subject: what was evaluated.
      out: folder of all seeds.
      found: seed -> its `metrics.json`.
    """
    benchmark = subject.benchmark
    of_seeds = {seed: rows.read_scored(rows.of_seed(out, seed)) for seed in found}
    all_rows = [row for own in of_seeds.values() for row in own]
    of_places: dict[Place, list[Row]] = {place: [] for place in subject.places}
    for row in all_rows:
        of_places[_place(row)].append(row)
    clips = [same for same in of_places.values() if same]
    names = [name for name in benchmark.metrics if not METRICS[name].of_rows]
    scores = scores_of_clips(of_seeds, names, benchmark.measured)
    scores |= scores_of_sets({seed: own["metrics"] for seed, own in found.items()}, scores)
    write_per_clip(out / PER_CLIP, [_mean(same) for same in clips])
    first, *_ = found
    timed = [own["generate_sec_per_clip"] for own in found.values()]
    timed = [sec for sec in timed if sec is not None]
    absent = {name: why for own in found.values() for name, why in own["absent"].items()}
    return {
        "benchmark": benchmark.name,
        "step": found[first]["step"],
        "seeds": [*found],
        "clips": len(clips),
        "sampler": found[first]["sampler"],
        "generate_sec_per_clip": float(np.mean(timed)) if timed else None,
        "metrics": scores,
        "networks": found[first]["networks"],
        "words": Judged.of(subject.config, rows.of_seed(out, first)).words(benchmark, all_rows),
        "absent": {name: why for name, why in absent.items() if name not in scores},
        "failed": _by_reason({seed: own["failed"] for seed, own in found.items()}),
        "problems": {
            clip: _by_reason({seed: own["problems"].get(clip, {}) for seed, own in found.items()})
            for clip in dict.fromkeys(clip for own in found.values() for clip in own["problems"])
        },
    }


def _place(row: Row) -> Place:
    return Place(row.task, row.index)


def _mean(same: Sequence[Row]) -> Row:
    """Of a clip's rows the first, with the mean over all of each generated score."""
    of_rows = [row.generated_scores for row in same]
    names = dict.fromkeys(name for scores in of_rows for name in scores)
    means = {
        name: float(np.mean([scores[name] for scores in of_rows if name in scores]))
        for name in names
    }
    scores = {name: (value, 1.0) for name, value in means.items()}
    return dataclasses.replace(same[0], scores={"generated": scores})


def _by_reason(told: Mapping[int, Mapping[str, str]]) -> dict[str, str]:
    """What -> why, with the seeds in which that is so where it is not so in all."""
    found = {}
    for what in dict.fromkeys(what for own in told.values() for what in own):
        reasons = {seed: own[what] for seed, own in told.items() if what in own}
        alike = len(reasons) == len(told) and len({*reasons.values()}) == 1
        each = (f"seed {seed}: {reason}" for seed, reason in reasons.items())
        found[what] = reasons.popitem()[1] if alike else "; ".join(each)
    return found


# ------------------------------------------------------------------------------------------ scores


def scores_of_clips(
    of_seeds: Mapping[int, Sequence[Row]], names: Iterable[str], versions: Sequence[str]
) -> dict[str, dict[str, Score]]:
    """name -> version -> score, of those that clips have.

    A score is the ratio of the sums, over all seeds and clips, of what a clip in a seed adds above
    and below. Its interval is over seeds and clips (`metrics.bootstrap.crossed_interval`), and
    "by_seed" has the ratio of each. What does not depend on seeds has neither seeds nor those.

    Args:
      of_seeds: seed -> rows with all their scores.
      names: metrics of clips.
      versions: versions of the sounds.
    """
    found: dict[str, dict[str, Score]] = {}
    for name in names:
        for version in versions:
            fractions = {
                seed: {
                    _place(row): row.scores[version][name]
                    for row in own
                    if name in row.scores.get(version, {})
                }
                for seed, own in of_seeds.items()
            }
            score = _score_of_clips(fractions, of_seeds=version in OF_SEEDS)
            if score:
                found.setdefault(name, {})[version] = score
    return found


def _score_of_clips(
    fractions: Mapping[int, Mapping[Place, tuple[float, float]]], *, of_seeds: bool
) -> Score:
    """The score of one version by one metric; nothing where there is nothing to divide by."""
    measured = {seed: own for seed, own in fractions.items() if sum(x for _, x in own.values())}
    if not measured:
        return {}
    merged = {place: both for own in measured.values() for place, both in own.items()}
    tables = [*measured.values()] if of_seeds else [merged]
    table = np.array([[own.get(place, (0, 0)) for place in merged] for own in tables], np.float64)
    above, below = np.moveaxis(table, -1, 0)  # [s, n]
    low, high = crossed_interval(above, below)
    value = float(above.sum() / below.sum())
    score: Score = {"value": value, "low": low, "high": high, "clips": len(merged)}
    if of_seeds:
        values = (above.sum(axis=1) / below.sum(axis=1)).tolist()
        score["by_seed"] = dict(zip(map(str, measured), values, strict=True))
    return score


def scores_of_sets(
    of_seeds: Mapping[int, Mapping[str, Mapping[str, Score]]], but: Collection[str]
) -> dict[str, dict[str, Score]]:
    """name -> version -> score, of those that all clips of a seed have together.

    A score is the mean over seeds, without an interval, and "by_seed" has the score of each; so is
    what it would be at infinitely many rows, of which the worst "r_squared" is told.

    Args:
      of_seeds: seed -> name -> version -> score.
      but: names that are left out.
    """
    found: dict[str, dict[str, Score]] = {}
    for name in dict.fromkeys(name for own in of_seeds.values() for name in own):
        if name in but:
            continue
        for version in dict.fromkeys(x for own in of_seeds.values() for x in own.get(name, {})):
            scores = {
                seed: own[name][version]
                for seed, own in of_seeds.items()
                if version in own.get(name, {})
            }
            found.setdefault(name, {})[version] = _score_of_sets(
                scores, of_seeds=version in OF_SEEDS
            )
    return found


def _score_of_sets(scores: Mapping[int, Score], *, of_seeds: bool) -> Score:
    """The score of one version from that of each seed."""
    merged: Score = {}
    for own in scores.values():
        merged = own | merged  # what seeds do not change is the first's
    if not of_seeds:
        return merged

    def all_of(name: str) -> list[float]:
        return [own[name] for own in scores.values() if name in own]

    means = {name: float(np.mean(all_of(name))) for name in ("value", "infinity") if name in merged}
    worst = {name: min(all_of(name)) for name in ("r_squared",) if name in merged}
    by_seed = {str(seed): own["value"] for seed, own in scores.items()}
    return merged | means | worst | {"by_seed": by_seed}
