"""The page of an evaluation: scores, loss curves, and clips to look at and listen to.

The page is laid out by `report.html.j2` beside this file; here the data is brought into the form
that it shows.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from vssflow_jax import page
from vssflow_jax.evaluate import clip_view, curves
from vssflow_jax.evaluate.clip_view import ClipView, Sound
from vssflow_jax.evaluate.labels import Label, in_order, label
from vssflow_jax.evaluate.published import PUBLISHED, Publication
from vssflow_jax.evaluate.ranking import rank
from vssflow_jax.evaluate.tables import Cell, Table, Whisker, flat, whiskers
from vssflow_jax.sampling import ADAPTIVE

TASK_HEADINGS: Final[Mapping[str, str]] = {
    "visualtts": "Speech from lips and text (VisualTTS)",
    "tts": "Speech from text (TTS)",
    "v2s": "Sound from video (V2S)",
    "joint": "Both at once (joint)",
}
"""Task -> heading of its clips, in the order of the page."""

_VERSIONS: Final[Mapping[str, tuple[str, str]]] = {
    "generated": ("generated", "the model's sound for each clip."),
    "ground_truth": (
        "ground truth",
        "the original sound, measured the same way: the best that can be hoped for.",
    ),
    "codec": (
        "codec",
        "the original sound encoded, decoded and turned back into a waveform: what the codec and "
        "vocoder alone cost.",
    ),
    "shuffled": (
        "shuffled",
        "the same model given another clip's conditions: what it scores without looking at the "
        "right one.",
    ),
}
"""Version -> heading of its column, and what it means."""

_THIS = "this evaluation"
_TEMPLATE = Path(__file__).with_name("report.html.j2")
_SHOWN_DIGITS = 12  # of a checksum
_SHOWN_FAILED = 100


@dataclasses.dataclass(frozen=True)
class ReportClip:
    """One clip as the page shows it.

    Attributes:
      clip_id: name of the clip, shown as its heading.
      task: a key of `TASK_HEADINGS`.
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
        if self.task not in TASK_HEADINGS:
            raise ValueError(f"clip {self.clip_id}: task {self.task!r}, not in {[*TASK_HEADINGS]}")


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
      clips: clips to show; those of a task are ordered from its worst and from its best one.

    Raises:
      UserError: a clip's video or sound cannot be read.
    """
    scores = results["metrics"]
    versions = _versions(scores)
    labels = {name: label(name) for name in in_order({**scores, **results["absent"]})}
    failed, partial = [*results["failed"].items()], [*results.get("problems", {}).items()]
    values = {
        "title": f"VSSFlow on {settings['benchmark']}",
        "summary": _summary(settings, results),
        "settings": Table(["value"], {name: [text] for name, text in flat(settings).items()}),
        "versions": {name: _VERSIONS.get(name, (name, "")) for name in versions},
        "rows": [
            _row(name, labels[name], scores[name], versions) for name in labels if name in scores
        ],
        "legend": {one.name: one.explanation for one in labels.values() if one.explanation},
        "absent": [
            (name, labels[name], why) for name in labels if (why := results["absent"].get(name))
        ],
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
            for task in TASK_HEADINGS
            if (shown := [clip for clip in clips if clip.task == task])
        ],
    }
    page.write(path, _TEMPLATE, values)


# ---------------------------------------------------------------------------------------- settings


def _summary(settings: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, str]:
    """What a reader wants to know first; all of it is further down the page."""
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


def _versions(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those that any score is of: known ones first, in their order."""
    there = dict.fromkeys(version for values in scores.values() for version in values)
    known = [version for version in _VERSIONS if version in there]
    return known + [version for version in there if version not in _VERSIONS]


def _row(
    metric: str, label: Label, scores: Mapping[str, Mapping[str, Any]], versions: Sequence[str]
) -> _Row:
    """The scores of one metric, a cell for each version."""
    row = [scores.get(version) for version in versions]
    clips = max(score["clips"] for score in scores.values())
    return _Row(metric, label, [Cell.of(label, score) for score in row], whiskers(row), clips)


def _beside(publication: Publication, scores: Mapping[str, Mapping[str, Any]]) -> _Published:
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
    scores: list[tuple[str, str]]
    view: ClipView


@dataclasses.dataclass(frozen=True)
class _Section:
    task: str
    heading: str
    groups: dict[str, list[_Card]]  # heading -> clips


def _section(task: str, clips: Sequence[ReportClip]) -> _Section:
    """The clips of a task: the worse half from the worst one on, then the better half."""
    ranking = rank(task, [clip.scores for clip in clips])
    num_worst = (len(ranking.order) + 1) // 2
    by = label(ranking.score).name
    groups = {
        f"Worst first ({by})": ranking.order[:num_worst],
        f"Best first ({by})": ranking.order[num_worst:][::-1],
        "Without a score to order them": ranking.rest,
    }
    return _Section(
        task,
        TASK_HEADINGS[task],
        {
            heading: [_card(clips[index]) for index in indices]
            for heading, indices in groups.items()
            if indices
        },
    )


def _card(clip: ReportClip) -> _Card:
    """Everything that the page shows of one clip."""
    transcript, recognised = _compare_words(clip.transcript, clip.recognised)
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
        scores=[
            (label(name).name, label(name).text(clip.scores[name]))
            for name in in_order(clip.scores)
        ],
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
