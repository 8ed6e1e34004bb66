"""The page of an evaluation: scores, loss curves, and clips to look at and listen to.

The page is laid out by `report.html.j2` beside this file; here the data is brought into the form
that it shows.
"""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from vssflow_jax.evaluate.metrics.labels import VERSIONS, Label
from vssflow_jax.evaluate.metrics.published import PUBLISHED, Publication
from vssflow_jax.evaluate.metrics.ranking import rank
from vssflow_jax.evaluate.metrics.registry import in_order, label
from vssflow_jax.evaluate.pages.tables import (
    Cell,
    Scores,
    Table,
    Whisker,
    flat,
    version_heading,
    versions,
    whiskers,
)
from vssflow_jax.flow.solvers import ADAPTIVE
from vssflow_jax.html import clip_view, curves, page
from vssflow_jax.html.clip_view import ClipView, Sound
from vssflow_jax.input_pipeline.tasks import TASKS, on_pages

_HEADLINES: Final = (
    *("wer", "onset_f1", "wer_joint", "onset_recall_joint"),
    *("fd_passt", "is_panns", "ib_score", "desync"),
    *("wer_tts", "lse_d", "utmos", "speaker_similarity", "dnsmos_ovrl", "mcd_dtw"),
    *("mel_distance_db_visualtts", "mel_distance_db_tts", "mel_distance_db_v2s"),
    *("mel_distance_db_joint", "fd_mel_statistics"),
)
"""Scores by how much they say to one who reads a few only; others come after them."""
_NUM_HEADLINES = 4
_REFERENCES: Final = ("ground_truth", "shuffled")
"""Versions that a headline is held against: the best that can be hoped for, and chance."""

_THIS = "this evaluation"
_TEMPLATE = Path(__file__).with_name("report.html.j2")
_SHOWN_DIGITS = 12  # of a checksum
_SHOWN_FAILED = 100


@dataclasses.dataclass(frozen=True)
class ReportClip:
    """One clip as the page shows it.

    Attributes:
      clip_id: name of the clip, shown as its heading.
      task: a key of `TASKS`.
      transcript: what the reference says; "" when it says nothing.
      recognised: what the recogniser read in the generated sound; "" when nothing.
      scores: metric -> value for this clip alone; a value that is not finite shows as "-".
      generated_video: mp4 with the generated sound; None plays `generated_wav` alone.
      reference_video: mp4 with the original sound; None plays `reference_waveform` alone.
      generated_wav: the generated sound.
      reference_waveform: the original sound [samples], at the rate of `audio.mel`.
      generated_log_mel: natural log-mel of the generated sound [n, m], at the rate of `audio.mel`.
      reference_log_mel: the same of the original sound [n, m].
      event_times_sec: moments at which the picture shows an event that sounds.
    """

    clip_id: str
    task: str
    transcript: str
    recognised: str
    scores: Mapping[str, float]
    generated_video: Path | None
    reference_video: Path | None
    generated_wav: Path
    reference_waveform: np.ndarray
    generated_log_mel: np.ndarray
    reference_log_mel: np.ndarray
    event_times_sec: Sequence[float]

    def __post_init__(self) -> None:
        """Raises ValueError for a task that the page has no section for."""
        if self.task not in TASKS:
            raise ValueError(f"clip {self.clip_id}: task {self.task!r}, not in {[*TASKS]}")


def write_report(
    path: Path,
    *,
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    clips: Sequence[ReportClip],
) -> None:
    """Write the page of an evaluation to `path`, whole or not at all.

    Args:
      path: file to write; its folder is made.
      settings: what was evaluated and how, as `evaluation.json` has it.
      results: the scores, those that are absent, and clips that failed or could not be measured in
        all, as `metrics.json` has them. A score that is missing or not finite shows as "-".
      history: rows of `metrics.jsonl`: `step`, and in any row `loss` and `loss_t0`, `loss_t1`, ...,
        the losses in equal bins of flow time. The last value of a step counts. May be empty.
      clips: clips to show; those of a task are ordered from its best and from its worst one.

    Raises:
      UserError: a clip's video or sound cannot be read.
    """
    scores = results["metrics"]
    columns = versions(scores)
    absent = in_order(results["absent"])
    legend = _explanations(in_order(scores))
    failed, partial = [*results["failed"].items()], [*results.get("problems", {}).items()]
    values = {
        "title": f"VSSFlow on {settings['benchmark']}",
        "clips": results["clips"],
        "facts": _facts(settings),
        "headlines": _headlines(scores),
        "summary": _summary(settings, results),
        "settings": Table(["value"], {name: [text] for name, text in flat(settings).items()}),
        "versions": {version_heading(name): VERSIONS.get(name, ("", ""))[1] for name in columns},
        "rows": [_row(name, scores[name], columns) for name in in_order(scores)],
        "legend": legend,
        "absent": [(name, label(name), results["absent"][name]) for name in absent],
        "absent_legend": {
            name: text for name, text in _explanations(absent).items() if name not in legend
        },
        "publications": [
            _beside(publication, scores) for publication in PUBLISHED.get(settings["benchmark"], ())
        ],
        "num_failed": len(failed),
        "failed": Table(["reason"], {name: [why] for name, why in failed[:_SHOWN_FAILED]}),
        "num_partial": len(partial),
        "partial": Table(
            ["what is missing"],
            {
                name: ["; ".join(f"{what}: {why}" for what, why in problems.items())]
                for name, problems in partial[:_SHOWN_FAILED]
            },
        ),
        "loss_chart": curves.loss_chart(history),
        "time_bin_chart": curves.time_bin_chart(history),
        "sections": [
            _section(task, shown)
            for task in on_pages()
            if (shown := [clip for clip in clips if clip.task == task])
        ],
    }
    page.write(path, _TEMPLATE, values)


# ----------------------------------------------------------------------------------------- summary


@dataclasses.dataclass(frozen=True)
class _Headline:
    """A score to be read first, and what it is held against."""

    label: Label
    text: str
    interval: str
    references: dict[str, str]  # heading of a version -> number


def _headlines(scores: Scores) -> list[_Headline]:
    """The few scores of the generated sounds that say most, in the order of the table."""
    there = [
        metric
        for metric in dict.fromkeys((*_HEADLINES, *in_order(scores)))
        if math.isfinite(scores.get(metric, {}).get("generated", {}).get("value", math.nan))
        and label(metric).better
    ]
    return [_headline(metric, scores[metric]) for metric in in_order(there[:_NUM_HEADLINES])]


def _headline(metric: str, scores: Mapping[str, Mapping[str, Any]]) -> _Headline:
    known, own = label(metric), scores["generated"]
    return _Headline(
        known,
        known.text(own["value"]),
        known.interval(own["low"], own["high"]),
        {
            version_heading(version): known.number(scores[version]["value"])
            for version in _REFERENCES
            if version in scores
        },
    )


def _facts(settings: Mapping[str, Any]) -> list[str]:
    """What was evaluated and how, in one line."""
    parameters = _millions(settings.get("parameters"))
    facts = [
        f"{settings['checkpoint']}, step {settings['step']:,}",
        f"{parameters} parameters" if parameters else "",
        _sampler(settings.get("sampler", {})),
    ]
    return [fact for fact in facts if fact]


def _summary(settings: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, str]:
    """The settings that a reader wants to know first; all of them are in the table below."""
    values = {
        "checkpoint": settings.get("checkpoint"),
        "SHA-256": str(settings.get("checkpoint_sha256", ""))[:_SHOWN_DIGITS],
        "step": settings.get("step"),
        "parameters": _millions(settings.get("parameters")),
        "beside the latent": settings.get("placement"),
        "sampler": _sampler(settings.get("sampler", {})),
        "seed": settings.get("seed"),
        "clips": results["clips"],
        "failed clips": len(results["failed"]),
    }
    return {name: str(value) for name, value in values.items() if value not in (None, "")}


def _millions(parameters: int | None) -> str:
    return f"{parameters / 1e6:.1f} M" if parameters else ""


def _sampler(sampler: Mapping[str, Any]) -> str:
    if not sampler:
        return ""
    adaptive = sampler["method"] == ADAPTIVE
    pace = f"tolerance {sampler['tolerance']}" if adaptive else f"{sampler['steps']} steps"
    return f"{sampler['method']}, {pace}, guidance {sampler['guidance']}"


# ------------------------------------------------------------------------------------------ tables


@dataclasses.dataclass(frozen=True)
class _Row:
    metric: str
    label: Label
    cells: list[Cell]  # in the order of the versions
    whiskers: list[Whisker | None]  # likewise
    clips: int


@dataclasses.dataclass(frozen=True)
class _Published:
    """A publication's table with a row of this evaluation above it."""

    publication: Publication
    labels: dict[str, Label]
    systems: dict[str, list[str]]


def _explanations(metrics: Iterable[str]) -> dict[str, str]:
    """Name of a metric, once for all its tasks -> what it is, where the name does not say it."""
    labels = map(label, metrics)
    return {one.name: one.explanation for one in labels if one.explanation}


def _row(metric: str, scores: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> _Row:
    """The scores of one metric, a cell for each version."""
    known = label(metric)
    row = [scores.get(version) for version in columns]
    clips = max(score["clips"] for score in scores.values())
    return _Row(metric, known, [Cell.of(known, score) for score in row], whiskers(row), clips)


def _beside(publication: Publication, scores: Scores) -> _Published:
    labels = {metric: label(metric) for metric in publication.metrics}
    own = [scores.get(metric, {}).get("generated", {}).get("value") for metric in labels]
    return _Published(
        publication,
        labels,
        {
            system: [label.number(value) for label, value in zip(labels.values(), row, strict=True)]
            for system, row in {_THIS: own, **publication.systems}.items()
        },
    )


# ------------------------------------------------------------------------------------------ clips


@dataclasses.dataclass(frozen=True)
class _Word:
    text: str
    differs: bool


@dataclasses.dataclass(frozen=True)
class _Card:
    clip_id: str
    transcript: list[_Word]
    recognised: list[_Word]
    main_score: tuple[str, str] | None
    other_scores: list[tuple[str, str]]
    view: ClipView


@dataclasses.dataclass(frozen=True)
class _Section:
    task: str
    heading: str
    ends: dict[str, list[_Card]]  # heading -> clips, from the best one and from the worst one
    rest: list[_Card]  # those without a score to order them


def _section(task: str, clips: Sequence[ReportClip]) -> _Section:
    """The clips of a task: the better half from the best one on, the worse from the worst."""
    ranking = rank(task, [clip.scores for clip in clips])
    num_worst = (len(ranking.order) + 1) // 2
    by = label(ranking.score).name
    ends = {
        f"Best first ({by})": ranking.order[num_worst:][::-1],
        f"Worst first ({by})": ranking.order[:num_worst],
    }
    return _Section(
        task,
        TASKS[task].title,
        {
            heading: [_card(clips[index], ranking.score) for index in indices]
            for heading, indices in ends.items()
            if indices
        },
        [_card(clips[index], ranking.score) for index in ranking.rest],
    )


def _card(clip: ReportClip, main_score: str) -> _Card:
    """Everything that the page shows of one clip; `main_score` is what it is ordered by."""
    transcript, recognised = _compare_words(clip.transcript, clip.recognised)
    texts = {
        name: (label(name).name, label(name).text(clip.scores[name]))
        for name in in_order(clip.scores)
    }
    if clip.generated_video:
        generated = clip_view.video(clip.generated_video, clip.clip_id)
    else:
        generated = page.sound_uri(clip_view.read_wav(clip.generated_wav, clip.clip_id))
    if clip.reference_video:
        reference = clip_view.video(clip.reference_video, clip.clip_id)
    else:
        reference = page.sound_uri(clip.reference_waveform)
    return _Card(
        clip_id=clip.clip_id,
        transcript=transcript,
        recognised=recognised,
        main_score=texts.pop(main_score, None),
        other_scores=[*texts.values()],
        view=ClipView.of(
            [
                Sound("generated", generated, clip.generated_log_mel),
                Sound("reference", reference, clip.reference_log_mel),
            ],
            clip.event_times_sec,
        ),
    )


def _compare_words(transcript: str, recognised: str) -> tuple[list[_Word], list[_Word]]:
    """The words of both, those marked that the other lacks; case and spaces do not count.

    Without a transcript there is nothing to compare with, and no word is marked.
    """
    left, right = transcript.split(), recognised.split()
    if not left:
        return [], [_Word(word, differs=False) for word in right]
    matcher = difflib.SequenceMatcher(
        None, [word.lower() for word in left], [word.lower() for word in right], autojunk=False
    )
    blocks = matcher.get_matching_blocks()
    left_same = {block.a + offset for block in blocks for offset in range(block.size)}
    right_same = {block.b + offset for block in blocks for offset in range(block.size)}
    return (
        [_Word(word, index not in left_same) for index, word in enumerate(left)],
        [_Word(word, index not in right_same) for index, word in enumerate(right)],
    )
