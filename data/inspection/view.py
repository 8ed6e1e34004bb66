"""The page of a dataset: its numbers, and clips to look at and listen to."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from data.inspection.stored import Found
from vssflow_jax.audio import mel
from vssflow_jax.clip import ClipSpec, fit_length, to_float
from vssflow_jax.features.phonemes import SYMBOLS
from vssflow_jax.html import page
from vssflow_jax.input_pipeline.records import DTYPES, DURATION

_TEMPLATE = Path(__file__).with_name("view.html.j2")
_NO_PHONEME = "-"
_SHOWN_REJECTED = 100
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclasses.dataclass(frozen=True)
class _Histogram:
    task: str
    bars: list[tuple[float, float, float, int]]  # left, width, height in percent, and the count
    x_ticks: list[page.Tick]
    y_ticks: list[page.Tick]


@dataclasses.dataclass(frozen=True)
class _Card:
    """A clip as the page shows it; pictures and sound are data URIs."""

    clip_id: str
    split: str
    facts: dict[str, str]
    sound: str
    spectrogram: str
    duration_sec: float
    time_ticks: list[page.Tick]
    frequency_ticks: list[page.Tick]
    event_percents: list[float]


def write(path: Path, numbers: Mapping[str, Any], examples: Mapping[str, Sequence[Found]]) -> None:
    """Write the page of `numbers` (as `data.inspect` makes them) and of clips by task.

    Raises:
      UserError: the packages that draw it are not installed.
    """
    spec = ClipSpec(**numbers["clip"])
    most = max(numbers["phonemes"].values()) or 1
    values = {
        **numbers,
        "title": f"Dataset {numbers['dataset']}",
        "parts": list(dict.fromkeys(part for by in numbers["counts"].values() for part in by)),
        "names": [*DTYPES],
        "hours": {name: _hours(numbers, name) for name in numbers["tasks"]},
        "size": size(shard["bytes"] for shard in numbers["shards"]),
        "histograms": [
            _histogram(name, task["duration_sec"]["histogram"], spec.duration_sec)
            for name, task in numbers["tasks"].items()
        ],
        "phoneme_bars": [
            (symbol, count, 100 * count / most)
            for symbol, count in sorted(numbers["phonemes"].items(), key=lambda item: -item[1])
            if count
        ],
        "unspoken": [symbol for symbol, count in numbers["phonemes"].items() if not count],
        "kinds": collections.Counter(reason.partition(":")[0] for _, reason in numbers["rejected"]),
        "shown_rejected": numbers["rejected"][:_SHOWN_REJECTED],
        "sections": {
            task: [_card(found, spec) for found in clips] for task, clips in examples.items()
        },
    }
    page.write(path, _TEMPLATE, values)


def size(num_bytes: Iterable[int]) -> str:
    """The sum of bytes as people read it."""
    total = float(sum(num_bytes))
    unit = 0
    while total >= 1000 and unit < len(_UNITS) - 1:
        total, unit = total / 1000, unit + 1
    return f"{total:.3g} {_UNITS[unit]}"


def _hours(numbers: Mapping[str, Any], task: str) -> float:
    """Of all clips of the task, by the mean of those looked at."""
    clips = sum(numbers["counts"][task].values())
    return clips * numbers["tasks"][task]["duration_sec"]["mean"] / 3600


def _histogram(task: str, counts: Sequence[int], window_sec: float) -> _Histogram:
    x_axis = page.Axis(0, window_sec)
    y_axis = page.Axis(0, max(counts), min_spacing=1)
    width = 100 / len(counts)
    heights = y_axis.percent(np.array(counts)).tolist()
    bars = [
        (index * width, width, height, count)
        for index, (height, count) in enumerate(zip(heights, counts, strict=True))
        if count
    ]
    return _Histogram(task, bars, x_axis.ticks(), y_axis.ticks())


def _card(found: Found, spec: ClipSpec) -> _Card:
    values = found.values
    waveform = to_float(values["audio"])
    frames = max(len(waveform) // mel.HOP, 1)
    # Padded to the window, so that it is compiled once for all clips.
    padded = jnp.asarray(fit_length(waveform, spec.num_samples))
    log_mel = np.asarray(mel.log_mel(padded[None], spec.mel_frames))[0, :frames]
    (spectrogram,) = page.spectrograms(log_mel)
    time_axis = page.Axis(0, frames * mel.HOP / mel.SAMPLING_RATE)
    symbols = (
        SYMBOLS[i - 1] if 1 <= i <= len(SYMBOLS) else _NO_PHONEME for i in values["phonemes"]
    )
    facts = {
        "duration": f"{values[DURATION]:.2f} s",
        "voice": values["voice"],
        "transcript": values["transcript"],
        "phonemes": " ".join(symbols),
        "video": values["video"],
    }
    return _Card(
        clip_id=values["clip_id"],
        split=found.shard.split,
        facts={name: fact for name, fact in facts.items() if fact},
        sound=page.sound_uri(values["audio"]),
        spectrogram=spectrogram,
        duration_sec=time_axis.high,
        time_ticks=time_axis.ticks(),
        frequency_ticks=page.frequency_ticks(log_mel.shape[1]),
        event_percents=time_axis.percent(values["event_times_sec"].astype(np.float64)).tolist(),
    )
