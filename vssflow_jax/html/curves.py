"""Curves of the loss over training, laid out for an SVG picture."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

from vssflow_jax.html import page

_SMOOTHING_SHARE = 0.02  # of all rows: standard deviation of the kernel that smooths a curve
_SMOOTHING_REACH = 3  # standard deviations of that kernel on either side
_TIME_BIN_KEY = re.compile(r"loss_t(\d+)")
_HEADROOM = 0.08  # empty share of the ordinate above and below the smoothed curves
# Key -> label and hue; those of test clips, whose noise stays the same, are shown as they are.
_LOSSES = {
    "loss": ("training", 212.0),
    "held_out": ("test clips", 20.0),
    "held_out_ema": ("test clips, averaged weights", 140.0),
}
_TIME_BIN_HUES = (20.0, 300.0)  # of the first and the last bin


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line of a chart."""

    label: str
    hue: float  # degrees on the colour circle; lightness is the theme's
    smoothed_points: str  # "x,y x,y ..." in percent of the plot, y downwards, as SVG wants it
    raw_points: str  # the same before smoothing


@dataclasses.dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes, and where the first of them ends."""

    curves: list[Curve]
    x_ticks: list[page.Tick]
    y_ticks: list[page.Tick]
    last_step: float
    last_value: float


def loss_chart(history: Sequence[Mapping[str, float]]) -> Chart | None:
    """The losses of training and of test clips over training, or None when none was logged."""
    return _chart(history, _LOSSES)


def time_bin_chart(history: Sequence[Mapping[str, float]]) -> Chart | None:
    """The losses in bins of flow time, or None when none was logged."""
    matches = (_TIME_BIN_KEY.fullmatch(key) for row in history for key in row)
    indices = sorted({int(match[1]) for match in matches if match})
    num_bins = max(indices, default=0) + 1
    hues = np.linspace(*_TIME_BIN_HUES, num=num_bins)
    ends = [f"{index / num_bins:.3g}" for index in range(num_bins + 1)]
    lines = {
        f"loss_t{index}": (f"{ends[index]}\N{EN DASH}{ends[index + 1]}", float(hues[index]))
        for index in indices
    }
    return _chart(history, lines)


def _chart(
    history: Sequence[Mapping[str, float]], lines: Mapping[str, tuple[str, float]]
) -> Chart | None:
    """Lay out keys of the history -> label and hue over one pair of axes.

    The ordinate follows the smoothed curves, so that single outliers, which the plot clips, do not
    flatten everything else.
    """
    found = {key: series for key in lines if len(series := _series(history, key))}
    if not found:
        return None
    all_steps, _, all_smoothed = np.concatenate([*found.values()]).T
    margin = _HEADROOM * np.ptp(all_smoothed)
    x_axis = page.Axis(all_steps.min(), all_steps.max(), min_spacing=1)
    y_axis = page.Axis(all_smoothed.min() - margin, all_smoothed.max() + margin)

    def points(steps: np.ndarray, values: np.ndarray) -> str:
        pairs = zip(x_axis.percent(steps), 100 - y_axis.percent(values), strict=True)
        first, *others = (f"{x:.2f},{y:.2f}" for x, y in pairs)
        return " ".join([first, first, *others])  # twice, so that a lone one is drawn too

    curves = []
    for key, series in found.items():
        steps, values, smoothed = series.T
        curves.append(Curve(*lines[key], points(steps, smoothed), points(steps, values)))
    last_value = next(iter(found.values()))[-1, 2]
    return Chart(curves, x_axis.ticks(), y_axis.ticks(), x_axis.high, last_value)


def _series(history: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
    """Steps, rising, and the finite values of `key`, as logged and smoothed: [r, 3].

    Of a step the last value counts.
    """
    last = {row["step"]: row[key] for row in history if key in row}
    points = sorted((step, value) for step, value in last.items() if math.isfinite(value))
    if not points:
        return np.zeros((0, 3))
    steps, values = np.array(points, dtype=np.float64).T
    smoothed = values if key.startswith("held_out") else _smooth(values)
    return np.stack([steps, values, smoothed], axis=1)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Gaussian running mean over neighbouring rows, [r] -> [r]; ends average what there is."""
    deviation = max(1.0, _SMOOTHING_SHARE * len(values))
    radius = min(math.ceil(_SMOOTHING_REACH * deviation), (len(values) - 1) // 2)
    blur = functools.partial(gaussian_filter1d, sigma=deviation, mode="constant", radius=radius)
    return blur(values) / blur(np.ones_like(values))
