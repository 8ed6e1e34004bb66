"""Evaluations side by side: `python -m vssflow_jax.evaluate.compare RUN_A RUN_B ...` writes a page.

Each RUN is the folder of an evaluation, or that of a run with `eval/` in it. The others are
compared with the first, clip by clip where both have a clip.
"""

import csv
import dataclasses
import itertools
import json
import math
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import flags

from vssflow_jax.audio import mel
from vssflow_jax.clip import to_float
from vssflow_jax.evaluate import rows
from vssflow_jax.evaluate.metrics.bootstrap import interval
from vssflow_jax.evaluate.metrics.labels import ABSENT, Label
from vssflow_jax.evaluate.metrics.ranking import main_score
from vssflow_jax.evaluate.metrics.registry import in_order, label
from vssflow_jax.evaluate.pages import parts
from vssflow_jax.evaluate.pages.parts import Card, Score, ScoreRow, Section
from vssflow_jax.html import clip_view, page
from vssflow_jax.html.clip_view import ClipView, Sound
from vssflow_jax.utils import plugins
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

CLIPS_PER_TASK = 4  # to look at and listen to

_LETTERS = string.ascii_uppercase
_ABOUT_CLIP = ("clip_id", "task", "transcript", "recognised")  # columns that are no scores


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation left in its folder.

    Attributes:
      folder: folder of the evaluation.
      settings: settings of `evaluation.json`.
      results: results of `metrics.json`.
      clips: clip -> its line of `per_clip.csv`.
      scores: clip -> metric -> value, those that it has.
    """

    folder: Path
    settings: Mapping[str, Any]
    results: Mapping[str, Any]
    clips: Mapping[str, Mapping[str, str]]
    scores: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, path: Path) -> "Evaluation":
        """Read a folder, or `eval/` in it.

        Raises:
          UserError: it holds no finished evaluation.
        """
        folder = path / "eval" if (path / "eval" / "metrics.json").is_file() else path
        try:
            settings = json.loads((folder / "evaluation.json").read_text())
            plugins.load(settings.get("config", {}).get("plugins", ""))
            results = json.loads((folder / "metrics.json").read_text())
            with (folder / "per_clip.csv").open(newline="", encoding="utf-8") as file:
                clips = {line["clip_id"]: line for line in csv.DictReader(file)}
            scores = {
                clip: {
                    name: float(value)
                    for name, value in line.items()
                    if name not in _ABOUT_CLIP and value
                }
                for clip, line in clips.items()
            }
        except OSError as error:
            raise UserError(
                f"{path}: no finished evaluation is there ({error.filename}: {error.strerror}); "
                "name a folder that run_eval.py wrote"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder}: damaged ({error!r}); run the evaluation again") from error
        return cls(folder, settings, results, clips, scores)

    @property
    def sounds(self) -> Path:
        """The folder of the sounds: of several seeds that of the first."""
        seeds = self.results.get("seeds")
        return rows.of_seed(self.folder, seeds[0]) if seeds else self.folder

    @property
    def name(self) -> str:
        """Of the run, or of the folder where the evaluation has its own."""
        folder = self.folder.resolve()
        return folder.parent.name if folder.name == "eval" else folder.name


def differences(first: Evaluation, other: Evaluation) -> dict[str, Score]:
    """Metric -> its paired difference, of all metrics that clips of both evaluations have.

    A difference is a score: the mean over clips of the other's value less the first's, its
    interval, and the clips that have both. Beside them stand "won" and "lost", the shares of clips
    on which the other is better and worse, None if nobody can say which is; and "verdict", "better"
    or "worse" if zero lies outside the interval.

    Raises:
      UserError: there is no clip in both.
    """
    common = [clip for clip in first.clips if clip in other.clips]
    if not common:
        raise UserError(
            f"{first.folder} and {other.folder} have no clip in common; compare evaluations of the "
            "same benchmark"
        )
    found = {}
    for metric in in_order(dict.fromkeys(name for clip in common for name in first.scores[clip])):
        changes = [
            other.scores[clip][metric] - first.scores[clip][metric]
            for clip in common
            if metric in first.scores[clip] and metric in other.scores[clip]
        ]
        if changes:
            found[metric] = _difference(label(metric), np.array(changes))
    return found


def _difference(label: Label, changes: np.ndarray) -> Score:
    """Of changes of a metric from clip to clip [n]; see `differences`."""
    low, high = interval(changes, np.ones_like(changes))
    value = float(changes.mean())
    is_clear = low is not None and high is not None and low * high > 0
    verdict = label.is_better(value) if is_clear else None
    better = [label.is_better(change) for change in changes]
    return {
        "value": value,
        "low": low,
        "high": high,
        "clips": len(changes),
        "won": better.count(True) / len(better) if label.better else None,
        "lost": better.count(False) / len(better) if label.better else None,
        "verdict": {True: "better", False: "worse", None: ""}[verdict],
    }


def compare(paths: Sequence[Path], out: Path, clips_per_task: int = CLIPS_PER_TASK) -> None:
    """Write the page of several evaluations to `out`, whole or not at all.

    Args:
      paths: paths of two evaluations at least; the first is what the others are compared with.
      out: the HTML file.
      clips_per_task: how many clips to show of each task, those that differ most.

    Raises:
      UserError: one of them is no evaluation, has no clip in common with the first, or lacks the
        sound of a clip.
    """
    if not 2 <= len(paths) <= len(_LETTERS):
        raise UserError(
            f"{len(paths)} evaluations: name 2 to {len(_LETTERS)} that are to be compared"
        )
    runs = dict(zip(_LETTERS, map(Evaluation.read, paths), strict=False))
    (_, first), *others = runs.items()
    values = {
        "title": f"{len(runs)} evaluations side by side",
        "runs": runs,
        "headings": {letter: f"{letter}: {run.name}" for letter, run in runs.items()},
        "one_benchmark": len({run.results["benchmark"] for run in runs.values()}) == 1,
        "rows": _score_rows([*runs.values()]),
        "differences": {letter: differences(first, run) for letter, run in others},
        "publications": parts.beside_published(
            first.results["benchmark"],
            {
                f"{letter}: {run.name}": run.results["metrics"]
                for letter, run in runs.items()
                if run.results["benchmark"] == first.results["benchmark"]
            },
        ),
        "settings": _settings_that_differ([run.settings for run in runs.values()]),
        "sections": _sections(runs, clips_per_task),
    }
    parts.write(out, "compare.html.j2", values)


def _score_rows(runs: Sequence[Evaluation]) -> list[ScoreRow]:
    """A row for each metric that any run has, of the generated sounds; the best is set off."""
    rows = []
    for metric in in_order(dict.fromkeys(name for run in runs for name in run.results["metrics"])):
        known = label(metric)
        scores = [run.results["metrics"].get(metric, {}).get("generated") for run in runs]
        # By what is read: equal numbers are equally good.
        numbers = [known.number(score and score["value"]) for score in scores]
        values = [score["value"] for score in scores if score and math.isfinite(score["value"])]
        choose = {"higher": max, "lower": min}.get(known.better)
        best = known.number(choose(values)) if choose and len(values) > 1 else None
        rows.append(ScoreRow(metric, scores, [number == best for number in numbers]))
    return rows


def _settings_that_differ(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Setting -> its value in each run, for those that are not the same in all."""
    flattened = [parts.flat(one) for one in settings]
    names = dict.fromkeys(itertools.chain.from_iterable(flattened))
    values = {name: [one.get(name, ABSENT) for one in flattened] for name in names}
    return {name: row for name, row in values.items() if len(set(row)) > 1}


def _sections(runs: Mapping[str, Evaluation], clips_per_task: int) -> list[Section]:
    """By task, the clips of all runs on whose main score these differ most."""
    first, *others = runs.values()
    common = [clip for clip in first.clips if all(clip in run.clips for run in others)]
    sections = []
    for task in dict.fromkeys(first.clips[clip]["task"] for clip in common):
        clips = [clip for clip in common if first.clips[clip]["task"] == task]
        score = main_score(task, [first.scores[clip] for clip in clips])
        spread = _spread(score, clips, [*runs.values()])
        shown = sorted(spread, key=lambda clip: -spread[clip])[:clips_per_task]
        if shown:
            cards = {
                f"Largest difference first ({label(score).name})": [
                    _card(clip, score, runs) for clip in shown
                ]
            }
            sections.append(Section(task, f"Clips that differ most, {task}", {}, cards))
    return sections


def _spread(score: str, clips: Sequence[str], runs: Sequence[Evaluation]) -> dict[str, float]:
    """Clip -> how far apart the runs are on it; those that lack the score in a run are left out."""
    values = {clip: [run.scores[clip].get(score, math.nan) for run in runs] for clip in clips}
    return {
        clip: max(row) - min(row) for clip, row in values.items() if all(map(math.isfinite, row))
    }


def _card(clip: str, score: str, runs: Mapping[str, Evaluation]) -> Card:
    first = next(iter(runs.values()))
    texts = {"transcript": first.clips[clip]["transcript"]}
    texts |= {
        f"{letter}, recognised": run.clips[clip]["recognised"] for letter, run in runs.items()
    }
    return Card(
        clip,
        {letter: label(score).text(run.scores[clip][score]) for letter, run in runs.items()},
        ClipView.of([_sound(letter, run, clip) for letter, run in runs.items()]),
        {name: parts.unmarked(text) for name, text in texts.items() if text},
    )


def _sound(letter: str, run: Evaluation, clip: str) -> Sound:
    """A run's sound of a clip, with pictures where there are any."""
    samples = clip_view.read_wav(run.sounds / "wav" / f"{clip}.wav", clip)
    video = run.sounds / "mp4" / f"{clip}.mp4"
    media = clip_view.video(video, clip) if video.is_file() else page.sound_uri(samples)
    waveform = np.pad(to_float(samples), (0, max(mel.WINDOW - len(samples), 0)))
    log_mel = mel.log_mel(jnp.asarray(waveform)[None], len(waveform) // mel.HOP)[0]
    return Sound(f"{letter}: {run.name}", media, np.asarray(log_mel))


def main(argv: list[str]) -> None:
    out = as_path(flags.FLAGS.out)
    compare([as_path(operand) for operand in argv[1:]], out, flags.FLAGS.clips)
    print(f"open {out}")


def define_flags() -> None:
    """Define the flags of the command."""
    flags.DEFINE_string("out", "compare.html", "the page")
    flags.DEFINE_integer("clips", CLIPS_PER_TASK, "of each task to show", lower_bound=0)
