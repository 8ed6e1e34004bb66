"""Curves of the loss over training, laid out for an SVG picture."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vssflow_jax.html import page

_SMOOTHING_SHARE = 0.02  # of all rows: standard deviation of the kernel that smooths a curve
_SMOOTHING_REACH = 3  # standard deviations of that kernel on either side
_TIME_BIN_KEY = re.compile(r"loss_t(\d+)")
_HEADROOM = 0.08  # empty share of the ordinate above and below the smoothed curves
_LOSS_HUE = 212.0
_TIME_BIN_HUES = (20.0, 300.0)  # of the first and the last bin


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line of a chart."""

    label: str
    hue: float  # degrees on the colour circle; lightness is the theme's
    smoothed_points: str  # "x,y x,y ..." in percent of the plot, y downwards, as SVG wants it
    raw_points: str  # the same before smoothing; "" leaves it out


@dataclasses.dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes, and where the first of them ends."""

    curves: list[Curve]
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


def loss_chart(history: Sequence[Mapping[str, float]]) -> Chart | None:
    """The loss over training, raw and smoothed, or None when none was logged."""
    loss = _series(history, "loss")
    if loss is None:
        return None
    return _chart({"loss": (_LOSS_HUE, loss)}, with_raw=True)


def time_bin_chart(history: Sequence[Mapping[str, float]]) -> Chart | None:
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


def _chart(series: Mapping[str, tuple[float, _Series]], *, with_raw: bool) -> Chart:
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

    return Chart(
        curves=[
            Curve(
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
