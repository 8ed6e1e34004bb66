"""Numbers of a dataset, in one pass over its records."""

import collections
import dataclasses
import math
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from data.inspection.stored import Damage, Found
from vssflow_jax.clip import ClipSpec, to_float
from vssflow_jax.features.phonemes import SYMBOLS
from vssflow_jax.input_pipeline.dataset import all_finite
from vssflow_jax.input_pipeline.records import DURATION, dtypes

DURATION_BINS = 24  # of the window
MEASURED = ("posterior", "audio")  # and the streams


@dataclasses.dataclass
class Moments:
    """Of all values of a field, clip after clip. What is not finite is counted and left out."""

    clips: int = 0
    frames: int = 0
    width: int = 0
    count: int = 0
    zeros: int = 0
    not_finite: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared deviations from the mean
    low: float = math.inf
    high: float = -math.inf

    def add(self, array: np.ndarray) -> None:
        """Count the values of one clip, [frames, width] or [width]; nothing when it is empty."""
        if not array.size:
            return
        frames = np.atleast_2d(array)
        self.clips += 1
        self.frames += len(frames)
        self.width = frames.shape[1]
        # Of float16, float32 holds all squares too, and is several times as fast to come by.
        values = frames.astype(np.float32 if frames.dtype == np.float16 else np.float64).ravel()
        finite = values if all_finite(frames) else values[np.isfinite(values)]
        self.not_finite += values.size - finite.size
        if not finite.size:
            return
        self.zeros += finite.size - int(np.count_nonzero(finite))
        self.low, self.high = min(self.low, finite.min()), max(self.high, finite.max())
        # Two sets are joined as by Chan, Golub and LeVeque (1979): no difference of large sums.
        total, mean = self.count + finite.size, finite.mean(dtype=np.float64)
        shift = mean - self.mean
        spread = finite - mean.astype(finite.dtype)
        self.squares += float(spread @ spread) + shift**2 * self.count * finite.size / total
        self.mean += shift * finite.size / total
        self.count = total

    def summary(self) -> dict[str, float | None]:
        """What JSON can hold of it; nothing (None) is the value of nothing."""
        some = self.count > 0
        return {
            "clips": self.clips,
            "width": self.width,
            "frames": self.frames / self.clips if self.clips else None,  # of a clip, on average
            "mean": float(self.mean) if some else None,
            "deviation": math.sqrt(self.squares / self.count) if some else None,
            "min": float(self.low) if some else None,
            "max": float(self.high) if some else None,
            "zeros": self.zeros / self.count if some else None,  # share
            "not_finite": self.not_finite,
        }


def gather(
    items: Iterable[Found | Damage], spec: ClipSpec, streams: Collection[str], examples: int
) -> tuple[dict[str, Any], dict[str, list[Found]]]:
    """Numbers of records as they come, for JSON, and the first `examples` records of each task."""
    seconds: dict[str, list[float]] = {}
    absent: dict[str, collections.Counter[str]] = {}
    arrays = dtypes(streams)
    fields = {name: Moments() for name in (*streams, *MEASURED)}
    phonemes: collections.Counter[int] = collections.Counter()
    damaged = 0
    shown: dict[str, list[Found]] = {}
    for item in items:
        if isinstance(item, Damage):
            damaged += 1
            continue
        values, task = item.values, item.shard.task
        duration_sec = values[DURATION] if math.isfinite(values[DURATION]) else 0.0
        seconds.setdefault(task, []).append(duration_sec)
        lacking = absent.setdefault(task, collections.Counter())
        lacking.update(name for name in arrays if not len(values[name]))
        for name, moments in fields.items():
            array = values[name]
            moments.add(to_float(array)[:, None] if name == "audio" else array)
        phonemes.update(values["phonemes"].tolist())
        if len(of_task := shown.setdefault(task, [])) < examples:
            of_task.append(item)
    numbers = {
        "looked_at": sum(map(len, seconds.values())),
        "damaged": damaged,
        "tasks": {
            task: {
                "clips": len(lasting),
                "duration_sec": _durations(lasting, spec.duration_sec),
                "absent": {name: absent[task][name] for name in arrays},
            }
            for task, lasting in seconds.items()
        },
        "fields": {name: moments.summary() for name, moments in fields.items()},
        "phonemes": {symbol: phonemes[i] for i, symbol in enumerate(SYMBOLS, start=1)},
    }
    return numbers, shown


def _durations(seconds: list[float], window_sec: float) -> dict[str, Any]:
    bins = (np.array(seconds) / window_sec * DURATION_BINS).astype(int)
    counts = np.bincount(np.clip(bins, 0, DURATION_BINS - 1), minlength=DURATION_BINS)
    return {
        "mean": sum(seconds) / len(seconds),
        "min": min(seconds),
        "max": max(seconds),
        "histogram": counts.tolist(),
    }
