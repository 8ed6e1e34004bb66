"""One model on one benchmark with many samplers: quality against evaluations and seconds."""

import copy
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from vssflow_jax.config import check
from vssflow_jax.evaluate import seeds
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.metrics.registry import label
from vssflow_jax.flow.sampler import Sampler
from vssflow_jax.parallel import distributed
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import whole, write_atomically, write_csv
from vssflow_jax.utils.optional import require

FIELDS = ("method", "steps", "guidance")
_COSTS = {"evaluations": "evaluations of the velocity", "sec_per_clip": "seconds a clip"}
_EXTRA = "plan"
_WIDTH, _HEIGHT = 4.2, 3.2  # of each plot, inches


def points(config: ml_collections.ConfigDict) -> list[dict[str, Any]]:
    """The samplers of `eval.sweep`: every combination of the values given, if any are."""
    given = {name: config.eval.sweep[name] for name in FIELDS if config.eval.sweep[name]}
    if not given:
        return []
    combinations = dict.fromkeys(itertools.product(*given.values()))  # each once
    return [dict(zip(given, values, strict=True)) for values in combinations]


def sweep(
    config: ml_collections.ConfigDict,
    definition: Benchmark,
    out: Path,
    run: Path | None,
    step: int | None = None,
    *,
    replace: bool = False,
) -> None:
    """Evaluate every sampler into a folder of its own, then write `sweep.csv` and `sweep.png`.

    Arguments and errors as in `seeds.evaluate`; what is there already is not made again.
    """
    require("matplotlib", _EXTRA)  # to hear at once if it is missing
    configs = {_name(point): _at(config, point) for point in points(config)}
    rows = []
    for name, own in configs.items():
        print(f"\n{name}")
        metrics = seeds.evaluate(own, definition, out / name, run, step, replace=replace)
        if distributed.is_main():
            rows.append(row(own.eval.sampler, metrics))
    if distributed.is_main():
        names = list(dict.fromkeys(name for row in rows for name in row))
        write_csv(out / "sweep.csv", names, rows)
        write_atomically(out / "sweep.json", json.dumps(rows, indent=2) + "\n")
        _draw(out / "sweep.png", [name for name in names if name not in (*FIELDS, *_COSTS)], rows)
        print(f"\n{out / 'sweep.csv'}\n{out / 'sweep.png'}")


def _name(point: Mapping[str, Any]) -> str:
    return "-".join(f"{key}={value}" for key, value in point.items())


def _at(config: ml_collections.ConfigDict, point: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """The config with the sampler of a point.

    Raises:
      UserError: the point has values that no sampler can have.
    """
    own = copy.deepcopy(config)
    try:
        own.eval.sampler.update(point)
    except TypeError as error:
        raise UserError(f"eval.sweep has {_name(point)}: {error}") from error
    check(own)
    return own


def row(sampler: ml_collections.ConfigDict, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the table: the sampler, what it costs, and the scores of the generated sounds."""
    scores = {
        name: versions["generated"]["value"]
        for name, versions in metrics["metrics"].items()
        if "generated" in versions
    }
    return {
        **{name: sampler[name] for name in FIELDS},
        "evaluations": Sampler.from_config(sampler).evaluations,
        "sec_per_clip": metrics["generate_sec_per_clip"],
        **scores,
    }


def _draw(path: Path, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Each score against evaluations, and against seconds; a line for each method and guidance."""
    figures = require("matplotlib.figure", _EXTRA)
    figure = figures.Figure((_WIDTH * len(_COSTS), _HEIGHT * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(_COSTS), squeeze=False)
    lines = sorted({(row["method"], row["guidance"]) for row in rows})
    for name, of_name in zip(names, axes, strict=True):
        for (cost, axis), plot in zip(_COSTS.items(), of_name, strict=True):
            for method, guidance in lines:
                found = sorted(
                    (row[cost], row[name])
                    for row in rows
                    if (row["method"], row["guidance"]) == (method, guidance)
                    and row[cost] is not None
                    and name in row
                )
                if found:
                    plot.plot(*zip(*found, strict=True), ".-", label=f"{method}, w = {guidance}")
            better = label(name).better
            plot.set(xlabel=axis, ylabel=label(name).title, title=better and f"{better} is better")
            plot.grid(alpha=0.3)
    axes[0][0].legend(fontsize="small")
    with whole(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
