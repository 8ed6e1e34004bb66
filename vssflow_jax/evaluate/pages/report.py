"""The page of an evaluation: scores, loss curves, and clips to look at and listen to.

The page is laid out by `report.html.j2` beside this file; here is decided what it shows.
"""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vssflow_jax.evaluate.metrics.ranking import rank
from vssflow_jax.evaluate.metrics.registry import GROUPS, group, in_order, label
from vssflow_jax.evaluate.pages import parts
from vssflow_jax.evaluate.pages.parts import Card, ScoreRow, Scores, Section, Words
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.evaluate.settings import FILES
from vssflow_jax.flow.solvers import ADAPTIVE
from vssflow_jax.html import curves
from vssflow_jax.html.clip_view import ClipView
from vssflow_jax.input_pipeline.tasks import TASKS, on_pages

_HEADLINES: Final = (
    *("wer", "onset_f1", "wer_joint", "onset_recall_joint"),
    *("fd_passt", "is_panns", "ib_score", "desync"),
    *("wer_tts", "lse_d", "utmos", "speaker_similarity_rawnet3", "speaker_similarity"),
    *("dnsmos_ovrl", "mcd_dtw"),
    *("mel_distance_db_visualtts", "mel_distance_db_tts", "mel_distance_db_v2s"),
    *("mel_distance_db_joint", "fd_mel_statistics"),
)
"""Scores by how much they say to one who reads a few only; others come after them."""
_NUM_HEADLINES = 4
_THIS = "this evaluation"
_SHOWN_DIGITS = 12  # of a checksum
_SHOWN_FAILED = 100
_UNFOLDED = 20  # scores, of which none is hidden at first


def write_report(
    path: Path,
    *,
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    clips: Sequence[tuple[Row, ClipView]],
) -> None:
    """Write the page of an evaluation to `path`, whole or not at all.

    Args:
      path: file to write; its folder is made.
      settings: what was evaluated and how, as `evaluation.json` has it.
      results: the scores, those that are absent, and clips that failed or could not be measured in
        all, as `metrics.json` has them. A score that is missing or not finite shows as "-".
      history: rows of `step` and of any of `loss`, and `loss_t0`, `loss_t1`, ..., in equal bins of
        flow time, of training; `held_out` and `held_out_ema`, of test clips. The last value of a
        step counts. May be empty.
      clips: clips to show; those of a task are ordered from its best and from its worst one.
    """
    scores = results["metrics"]
    columns = parts.versions(scores)
    rows = {
        metric: ScoreRow(
            metric,
            [scores[metric].get(version) for version in columns],
            [index == 0 for index in range(len(columns))],
        )
        for metric in in_order(scores)
    }
    absent = {metric: results["absent"][metric] for metric in in_order(results["absent"])}
    values = {
        "title": f"{'VSSFlow' if _is_ours(settings) else 'Sounds'} on {settings['benchmark']}",
        "headlines": [rows[metric] for metric in _headlines(scores)],
        "summary": _summary(settings, results),
        "settings": {name: [text] for name, text in parts.flat(settings).items()},
        "versions": columns,
        "groups": _grouped(rows),
        "folded": len(rows) > _UNFOLDED,
        "networks": {
            label(metric).title: [results["networks"][metric]]
            for metric in in_order(results.get("networks", {}))
            if metric in scores
        },
        "words": results.get("words", {}),
        "seeds": results.get("seeds", []),
        "warnings": parts.warnings(scores),
        "remarks": results.get("remarks", []),
        "at_infinity": any("infinity" in x for own in scores.values() for x in own.values()),
        "absent": absent,
        "absent_legend": {
            name: text
            for name, text in _explanations(absent).items()
            if name not in _explanations(rows)
        },
        "publications": parts.beside_published(settings["benchmark"], {_THIS: scores}),
        "failed": {name: [why] for name, why in results["failed"].items()},
        "partial": {
            name: ["; ".join(f"{what}: {why}" for what, why in problems.items())]
            for name, problems in results["problems"].items()
        },
        "shown_failed": _SHOWN_FAILED,
        "loss_chart": curves.loss_chart(history),
        "time_bin_chart": curves.time_bin_chart(history),
        "sections": [
            _section(task, shown)
            for task in on_pages()
            if (shown := [clip for clip in clips if clip[0].task == task])
        ],
    }
    parts.write(path, "report.html.j2", values)


def _grouped(rows: Mapping[str, ScoreRow]) -> dict[str, tuple[list[ScoreRow], dict[str, str]]]:
    """Heading -> the scores below it, and what they are; those of the field's metrics first."""
    found: dict[str, list[ScoreRow]] = {heading: [] for heading in (*GROUPS, "Others")}
    for metric, row in rows.items():
        found[group(metric)].append(row)
    return {
        heading: (inside, _explanations(row.metric for row in inside))
        for heading, inside in found.items()
        if inside
    }


def _headlines(scores: Scores) -> list[str]:
    """The few metrics of the generated sounds that say most, in the order of the table."""
    there = [
        metric
        for metric in dict.fromkeys((*_HEADLINES, *in_order(scores)))
        if math.isfinite(scores.get(metric, {}).get("generated", {}).get("value", math.nan))
        and label(metric).better
    ]
    return in_order(there[:_NUM_HEADLINES])


def _is_ours(settings: Mapping[str, Any]) -> bool:
    """Whether the sounds are of a model that was run, and not of another system."""
    return "sampler" in settings


def _summary(settings: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a reader wants to know first; all of them are in the table below."""
    counts = {"clips": results["clips"], "failed clips": len(results["failed"])}
    if not _is_ours(settings):
        return {name: settings[name] for name in FILES if settings[name]} | counts
    sampler = settings["sampler"]
    adaptive = sampler["method"] == ADAPTIVE
    pace = f"tolerance {sampler['tolerance']}" if adaptive else f"{sampler['steps']} steps"
    return {
        "checkpoint": settings["checkpoint"],
        "SHA-256": settings["checkpoint_sha256"][:_SHOWN_DIGITS],
        "step": settings["step"],
        "parameters": f"{settings['parameters'] / 1e6:.1f} M",
        "beside the latent": settings["placement"],
        "sampler": f"{sampler['method']}, {pace}, guidance {sampler['guidance']}",
        "seed": _listed(settings["seed"]),
        **counts,
    }


def _listed(seed: int | Sequence[int]) -> str:
    return str(seed) if isinstance(seed, int) else ", ".join(map(str, seed))


def _explanations(metrics: Iterable[str]) -> dict[str, str]:
    """Name of a metric, once for all its tasks -> what it is, where the name does not say it."""
    labels = map(label, metrics)
    return {one.name: one.explanation for one in labels if one.explanation}


def _section(task: str, clips: Sequence[tuple[Row, ClipView]]) -> Section:
    """The clips of a task: the better half from the best one on, the worse from the worst."""
    ranking = rank(task, [row.generated_scores for row, _ in clips])
    num_worst = (len(ranking.order) + 1) // 2
    by = label(ranking.score).name
    columns = {
        f"Best first ({by})": ranking.order[num_worst:][::-1],
        f"Worst first ({by})": ranking.order[:num_worst],
    }
    rest = {"Without a score to order them": ranking.rest}

    def cards(groups: Mapping[str, Sequence[int]]) -> dict[str, list[Card]]:
        return {
            heading: [_card(*clips[index], ranking.score) for index in indices]
            for heading, indices in groups.items()
            if indices
        }

    return Section(task, TASKS[task].title, cards(columns), cards(rest))


def _card(row: Row, view: ClipView, main_score: str) -> Card:
    """Everything that the page shows of one clip; `main_score` is what it is ordered by."""
    recognised = row.recognised.get("generated", "")
    transcript_words, recognised_words = _compare_words(row.transcript, recognised)
    said = {"caption": parts.unmarked(row.caption)} if row.caption else {}
    if row.transcript:
        said["transcript"] = transcript_words
    if row.transcript or recognised:
        said["recognised"] = recognised_words
    scores = row.generated_scores
    own, others = (
        {label(name).name: label(name).text(scores[name]) for name in in_order(names)}
        for names in (scores.keys() & {main_score}, scores.keys() - {main_score})
    )
    return Card(row.clip_id, own, view, said, others)


def _compare_words(transcript: str, recognised: str) -> tuple[Words, Words]:
    """The words of both, those marked that the other lacks; case and spaces do not count.

    Without a transcript there is nothing to compare with, and no word is marked.
    """
    left, right = transcript.split(), recognised.split()
    if not left:
        return [], parts.unmarked(recognised)
    matcher = difflib.SequenceMatcher(
        None, [word.lower() for word in left], [word.lower() for word in right], autojunk=False
    )
    blocks = matcher.get_matching_blocks()
    left_same = {block.a + offset for block in blocks for offset in range(block.size)}
    right_same = {block.b + offset for block in blocks for offset in range(block.size)}
    return (
        [(word, index not in left_same) for index, word in enumerate(left)],
        [(word, index not in right_same) for index, word in enumerate(right)],
    )
