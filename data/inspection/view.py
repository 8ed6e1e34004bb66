"""The page of a dataset: its numbers, and clips to look at and listen to."""

import collections
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
from vssflow_jax.input_pipeline.records import DURATION, dtypes

_TEMPLATE = Path(__file__).with_name("view.html.j2")
_NO_PHONEME = "-"
_SHOWN_REJECTED = 100
_UNITS = ("B", "kB", "MB", "GB", "TB")


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
        "names": [*dtypes(numbers["widths"])],
        "hours": {  # of all clips, by the mean of those looked at
            name: sum(numbers["counts"][name].values()) * task["duration_sec"]["mean"] / 3600
            for name, task in numbers["tasks"].items()
        },
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


def _histogram(task: str, counts: Sequence[int], window_sec: float) -> dict[str, Any]:
    x_axis, y_axis = page.Axis(0, window_sec), page.Axis(0, max(counts), min_spacing=1)
    width = 100 / len(counts)
    heights = y_axis.percent(np.array(counts)).tolist()
    return {
        "task": task,
        "bars": [  # left, width and height in percent
            (index * width, width, height, count)
            for index, (height, count) in enumerate(zip(heights, counts, strict=True))
            if count
        ],
        "x_ticks": x_axis.ticks(),
        "y_ticks": y_axis.ticks(),
    }


def _card(found: Found, spec: ClipSpec) -> dict[str, Any]:
    """A clip as the page shows it; pictures and sound are data URIs."""
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
        "caption": values["caption"],
        "phonemes": " ".join(symbols),
        "video": values["video"],
    }
    return {
        "clip_id": values["clip_id"],
        "split": found.shard.split,
        "facts": {name: fact for name, fact in facts.items() if fact},
        "sound": page.sound_uri(values["audio"]),
        "spectrogram": spectrogram,
        "duration_sec": time_axis.high,
        "time_ticks": time_axis.ticks(),
        "frequency_ticks": page.frequency_ticks(log_mel.shape[1]),
        "event_percents": time_axis.percent(values["event_times_sec"].astype(np.float64)).tolist(),
    }
