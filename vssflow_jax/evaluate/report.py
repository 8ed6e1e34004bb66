"""The page of an evaluation: numbers, loss curves, and clips to look at and listen to.

The page is laid out by `report.html.j2` beside this file; here the data is brought into the form
that it shows.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from vssflow_jax import page
from vssflow_jax.audio import mel
from vssflow_jax.errors import UserError

TASK_HEADINGS: Final[Mapping[str, str]] = {
    "visualtts": "Speech from lips and text (VisualTTS)",
    "v2s": "Sound from video (V2S)",
    "joint": "Both at once (joint)",
}
"""Task -> heading of its clips, in the order of the page."""

_ABSENT = "-"
_TEMPLATE = Path(__file__).with_name("report.html.j2")

_SMOOTHING_SHARE = 0.02  # of all rows: standard deviation of the kernel that smooths a curve
_SMOOTHING_REACH = 3  # standard deviations of that kernel on either side
_TIME_BIN_KEY = re.compile(r"loss_t(\d+)")
_HEADROOM = 0.08  # empty share of the ordinate above and below the smoothed curves

_FRAME_RATE = mel.SAMPLING_RATE / mel.HOP


@dataclasses.dataclass(frozen=True)
class ReportClip:
    """One clip of the test split as the page shows it.

    Attributes:
      clip_id: name of the clip, shown as its heading.
      task: a key of `TASK_HEADINGS`.
      transcript: what the reference says; "" when it says nothing.
      recognised: what the recogniser read in the generated sound; "" when nothing.
      scores: metric -> value for this clip alone; a value that is not finite shows as "-".
      generated_video: mp4 with the generated sound.
      reference_video: mp4 with the original sound.
      generated_log_mel: natural log-mel of the generated sound [n, m], at the rate of `audio.mel`.
      reference_log_mel: the same of the original sound [n, m].
      event_times_sec: moments at which the picture shows an event that sounds.
    """

    clip_id: str
    task: str
    transcript: str
    recognised: str
    scores: Mapping[str, float]
    generated_video: Path
    reference_video: Path
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
    title: str,
    config_summary: Mapping[str, str],
    metrics: Mapping[str, float],
    history: Sequence[Mapping[str, float]],
    clips: Sequence[ReportClip],
) -> None:
    """Write the page of an evaluation to `path`, whole or not at all.

    Args:
      path: file to write; its folder is made.
      title: heading of the page.
      config_summary: what was run, setting -> value, in the order to show.
      metrics: NAME, NAME_ground_truth, NAME_codec and NAME_shuffled for each metric NAME, which may
        end in a task (`wer_joint`). A value that is missing or not finite shows as "-".
      history: rows of `metrics.jsonl`: `step`, and in any row `loss` and `loss_t0`, `loss_t1`, ...,
        the losses in equal bins of flow time. The last value of a step counts.
      clips: clips to show, in order within each task.

    Raises:
      UserError: a clip's video cannot be read.
    """
    metric_rows = _metric_rows(metrics)
    values = {
        "title": title,
        "config_summary": config_summary,
        "metric_rows": metric_rows,
        "metric_legend": {
            row.metric.label: row.metric.explanation
            for row in metric_rows
            if row.metric.explanation
        },
        "metric_columns": _COLUMNS,
        "loss_chart": _loss_chart(history),
        "time_bin_chart": _time_bin_chart(history),
        "sections": [
            _Section(task, heading, cards)
            for task, heading in TASK_HEADINGS.items()
            if (cards := [_card(clip) for clip in clips if clip.task == task])
        ],
    }
    page.write(path, _TEMPLATE, values)


# ------------------------------------------------------------------------------------------ table


@dataclasses.dataclass(frozen=True)
class _Metric:
    """How a metric is named, written and judged."""

    label: str
    better: Literal["lower", "higher", ""] = ""
    explanation: str = ""
    scale: float = 1.0
    format: str = "{:.4g}"

    def text(self, value: float | None) -> str:
        """`value` as people read it; "-" for one that is missing or not finite."""
        if value is None or not math.isfinite(value):
            return _ABSENT
        return self.format.format(value * self.scale)


_METRICS: Final[Mapping[str, _Metric]] = {
    "wer": _Metric(
        label="Word error rate",
        better="lower",
        explanation="share of the transcript's words that a speech recogniser gets wrong.",
        scale=100.0,
        format="{:.1f}\N{NO-BREAK SPACE}%",
    ),
    "onset_f1": _Metric(
        label="Onset F1",
        better="higher",
        explanation="how well the onsets heard coincide with the events seen; 1 is perfect.",
        format="{:.2f}",
    ),
    "onset_recall": _Metric(
        label="Onset recall",
        better="higher",
        explanation="share of the events seen that are heard; speech has onsets of its own.",
        format="{:.2f}",
    ),
    "mel_distance_db": _Metric(
        label="Mel distance",
        better="lower",
        explanation="mean difference of the mel spectrogram from that of the original sound.",
        format="{:.1f}\N{NO-BREAK SPACE}dB",
    ),
}

_COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "": ("generated", "the model's sound for each clip of the test split."),
    "_ground_truth": (
        "ground truth",
        "the original sound, measured the same way: the best that can be hoped for.",
    ),
    "_codec": (
        "codec",
        "the original sound encoded, decoded and turned back into a waveform: what the codec and "
        "vocoder alone cost.",
    ),
    "_shuffled": (
        "shuffled",
        "the same model given another clip's conditions: what it scores without looking at the "
        "right one.",
    ),
}
"""Suffix of a metric's key -> heading of its column, and what it means."""


@dataclasses.dataclass(frozen=True)
class _MetricRow:
    name: str
    metric: _Metric
    scope: str  # "joint clips", or "" for the metric over all clips that have it
    cells: list[str]  # in the order of _COLUMNS


def _split_metric_name(name: str) -> tuple[str, str]:
    """Split "wer_joint" into ("wer", "joint"); the task is "" when none is named."""
    for task in TASK_HEADINGS:
        if name.endswith(f"_{task}"):
            return name.removesuffix(f"_{task}"), task
    return name, ""


def _metric(base: str) -> _Metric:
    """The metric called `base`; one not known here goes by its own name, with plain numbers."""
    return _METRICS.get(base, _Metric(label=base.replace("_", " ").capitalize()))


def _metric_rows(metrics: Mapping[str, float]) -> list[_MetricRow]:
    """One row for each NAME of `metrics`: overall ones, those of a task, then those not known."""
    suffixes = [suffix for suffix in _COLUMNS if suffix]
    names: dict[str, None] = {}
    for key in metrics:
        suffix = next((suffix for suffix in suffixes if key.endswith(suffix)), "")
        names[key.removesuffix(suffix)] = None

    tasks, known = ["", *TASK_HEADINGS], [*_METRICS]

    def rank(name: str) -> tuple[int, int]:
        base, task = _split_metric_name(name)
        if base not in known:
            return len(tasks), 0
        return tasks.index(task), known.index(base)

    rows = []
    for name in sorted(names, key=rank):
        base, task = _split_metric_name(name)
        metric = _metric(base)
        cells = [metric.text(metrics.get(name + suffix)) for suffix in _COLUMNS]
        rows.append(_MetricRow(name, metric, f"{task} clips" if task else "", cells))
    return rows


# ----------------------------------------------------------------------------------------- curves


@dataclasses.dataclass(frozen=True)
class _Curve:
    label: str
    hue: float  # degrees on the colour circle; lightness is the theme's
    smoothed_points: str  # "x,y x,y ..." in percent of the plot, y downwards, as SVG wants it
    raw_points: str  # the same before smoothing; "" leaves it out


@dataclasses.dataclass(frozen=True)
class _Chart:
    curves: list[_Curve]
    x_ticks: list[page.Tick]
    y_ticks: list[page.Tick]
    last_step: str
    last_value: str


@dataclasses.dataclass(frozen=True)
class _Series:
    """One quantity over training: steps [r] rising, values [r] as logged and smoothed."""

    steps: np.ndarray
    values: np.ndarray
    smoothed: np.ndarray


_LOSS_HUE = 212.0
_TIME_BIN_HUES = (20.0, 300.0)  # of the first and the last bin


def _series(history: Iterable[Mapping[str, float]], key: str) -> _Series | None:
    """The finite values of `key`, one for each step (the last logged), or None without any."""
    last = {row["step"]: row[key] for row in history if key in row}
    points = sorted((step, value) for step, value in last.items() if math.isfinite(value))
    if not points:
        return None
    steps, values = np.array(points, dtype=np.float64).T
    return _Series(steps, values, _smooth(values))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Gaussian running mean over neighbouring rows, [r] -> [r]; ends average what there is."""
    deviation = max(1.0, _SMOOTHING_SHARE * len(values))
    # A kernel longer than the series would make np.convolve return more than r values.
    reach = min(math.ceil(_SMOOTHING_REACH * deviation), (len(values) - 1) // 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    weight = np.convolve(np.ones_like(values), kernel, mode="same")
    return np.convolve(values, kernel, mode="same") / weight


def _loss_chart(history: Sequence[Mapping[str, float]]) -> _Chart | None:
    """The loss over training, raw and smoothed, or None when none was logged."""
    loss = _series(history, "loss")
    if loss is None:
        return None
    return _chart({"loss": (_LOSS_HUE, loss)}, with_raw=True)


def _time_bin_chart(history: Sequence[Mapping[str, float]]) -> _Chart | None:
    """The smoothed losses in bins of flow time, or None when none was logged."""
    matches = (_TIME_BIN_KEY.fullmatch(key) for row in history for key in row)
    indices = sorted({int(match[1]) for match in matches if match})
    num_bins = indices[-1] + 1 if indices else 0
    hues = np.linspace(*_TIME_BIN_HUES, num=num_bins)
    bins = {}
    for index in indices:
        series = _series(history, f"loss_t{index}")
        if series is not None:
            label = f"{index / num_bins:.3g}\N{EN DASH}{(index + 1) / num_bins:.3g}"
            bins[label] = (float(hues[index]), series)
    return _chart(bins, with_raw=False) if bins else None


def _chart(series: Mapping[str, tuple[float, _Series]], *, with_raw: bool) -> _Chart:
    """Lay out labelled (hue, series) over one pair of axes.

    The ordinate follows the smoothed curves, so that single outliers, which the plot clips, do not
    flatten everything else.
    """
    every = [one for _, one in series.values()]
    x_axis = page.Axis(
        min(one.steps[0] for one in every), max(one.steps[-1] for one in every), min_spacing=1
    )
    low = min(one.smoothed.min() for one in every)
    high = max(one.smoothed.max() for one in every)
    margin = _HEADROOM * (high - low)
    y_axis = page.Axis(low - margin, high + margin)

    def points(steps: np.ndarray, values: np.ndarray) -> str:
        return _svg_points(x_axis.percent(steps), 100 - y_axis.percent(values))

    return _Chart(
        curves=[
            _Curve(
                label=label,
                hue=hue,
                smoothed_points=points(one.steps, one.smoothed),
                raw_points=points(one.steps, one.values) if with_raw else "",
            )
            for label, (hue, one) in series.items()
        ],
        x_ticks=x_axis.ticks(),
        y_ticks=y_axis.ticks(),
        last_step=f"{x_axis.high:,.0f}",
        last_value=f"{every[0].smoothed[-1]:.4g}",
    )


def _svg_points(x: np.ndarray, y: np.ndarray) -> str:
    """Points attribute of an SVG polyline; the first one twice, so that a lone one is drawn too."""
    pairs = [f"{a:.2f},{b:.2f}" for a, b in zip(x, y, strict=True)]
    return " ".join([pairs[0], *pairs])


# ------------------------------------------------------------------------------------------ clips


@dataclasses.dataclass(frozen=True)
class _Word:
    text: str
    differs: bool


@dataclasses.dataclass(frozen=True)
class _Sound:
    """One side of the comparison: a video and the spectrogram of its sound."""

    name: str
    video: str  # data URI
    spectrogram: str  # data URI
    width_percent: float  # of the panel, which is as wide as the longer of the two sounds


@dataclasses.dataclass(frozen=True)
class _Card:
    clip_id: str
    transcript: list[_Word]
    recognised: list[_Word]
    scores: list[tuple[str, str]]
    sounds: list[_Sound]
    duration_sec: float
    time_ticks: list[page.Tick]
    frequency_ticks: list[page.Tick]
    event_percents: list[float]


@dataclasses.dataclass(frozen=True)
class _Section:
    task: str
    heading: str
    cards: list[_Card]


def _card(clip: ReportClip) -> _Card:
    """Everything that the page shows of one clip."""
    transcript, recognised = _compare_words(clip.transcript, clip.recognised)
    num_frames = max(len(clip.generated_log_mel), len(clip.reference_log_mel))
    time_axis = page.Axis(0, num_frames / _FRAME_RATE)
    generated, reference = page.spectrograms(clip.generated_log_mel, clip.reference_log_mel)
    return _Card(
        clip_id=clip.clip_id,
        transcript=transcript,
        recognised=recognised,
        scores=[
            (_metric(name).label, _metric(name).text(value)) for name, value in clip.scores.items()
        ],
        sounds=[
            _Sound(
                name="generated",
                video=_video_uri(clip.generated_video, clip.clip_id),
                spectrogram=generated,
                width_percent=100 * len(clip.generated_log_mel) / num_frames,
            ),
            _Sound(
                name="reference",
                video=_video_uri(clip.reference_video, clip.clip_id),
                spectrogram=reference,
                width_percent=100 * len(clip.reference_log_mel) / num_frames,
            ),
        ],
        duration_sec=time_axis.high,
        time_ticks=time_axis.ticks(),
        frequency_ticks=page.frequency_ticks(clip.reference_log_mel.shape[1]),
        event_percents=time_axis.percent(np.asarray(clip.event_times_sec, np.float64)).tolist(),
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


def _video_uri(path: Path, clip_id: str) -> str:
    """The mp4 at `path` as a data URI; raises UserError when it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"report: the video of clip {clip_id} cannot be read from {path} ({error.strerror}); "
            "run the evaluation again"
        ) from error
    return page.data_uri("video/mp4", content)
