"""What the HTML pages share: one file each, with axes and spectrograms to put on them.

Everything lies inside the one file (media as data URIs), so that it opens from a disk, an e-mail or
a bucket, without a network. The look of all pages is `page.html.j2` beside this file; the template
of a page extends it.
"""

import base64
import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile

from vssflow_jax.audio import mel
from vssflow_jax.utils.files import write_atomically
from vssflow_jax.utils.optional import require

DYNAMIC_RANGE_DB = 60  # of a spectrogram
_EXTRA = "demo"
_LOG_SILENCE = math.log(mel.MIN_MAGNITUDE)
_DECIBELS_PER_NEPER = 20 / math.log(10)
_FREQUENCY_TICKS_KHZ = (0.5, 1, 2, 4, 8)
_MAX_TICKS = 6
_PALETTE_SIZE = 256
# Evenly spaced colours of rising luminance, from quiet to loud (red, green, blue of 255).
_PALETTE_ANCHORS = (
    (10, 8, 24),
    (62, 20, 94),
    (140, 34, 110),
    (214, 70, 82),
    (250, 152, 62),
    (255, 244, 204),
)


def write(path: Path, template: Path, values: dict[str, Any]) -> None:
    """Write the page that `template` makes of `values`; half a page is never seen.

    Raises:
      UserError: the packages that draw it are not installed.
    """
    jinja2 = require("jinja2", _EXTRA)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(template.name).render(
        values,
        palette_png=_png(np.arange(_PALETTE_SIZE, dtype=np.uint8)[None]),
        dynamic_range_db=DYNAMIC_RANGE_DB,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, html)


def data_uri(media_type: str, content: bytes) -> str:
    """The content of a file, in place of a link to it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def sound_uri(samples: np.ndarray) -> str:
    """A sound, int16 [n] at the rate of `audio.mel`, as a data URI without loss."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, mel.SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    return data_uri("audio/flac", buffer.getvalue())


# ------------------------------------------------------------------------------------------- axes


@dataclasses.dataclass(frozen=True)
class Tick:
    """A mark of an axis, `percent` of it from its origin."""

    percent: float
    label: str


class Axis:
    """A stretch of numbers laid over 0 to 100 percent of a plot's side."""

    def __init__(self, low: float, high: float, *, min_spacing: float = 0) -> None:
        # A single point, or a flat curve, gets a stretch around it to stand in the middle of.
        slack = 0.0 if high > low else max(abs(low) / 2, 0.5)
        self.high = high
        self._min_spacing = min_spacing
        self._origin, self._length = low - slack, high - low + 2 * slack

    def percent(self, values: np.ndarray) -> np.ndarray:
        """Where the values lie."""
        return 100 * (values - self._origin) / self._length

    def ticks(self) -> list[Tick]:
        """At most `_MAX_TICKS` round numbers, spaced by 1, 2 or 5 times a power of ten."""
        decade = 10 ** math.floor(math.log10(self._length / _MAX_TICKS))
        spacings = (decade * factor for factor in (1, 2, 5, 10))
        wide_enough = next(spacing for spacing in spacings if self._length < spacing * _MAX_TICKS)
        spacing = max(wide_enough, self._min_spacing)
        first = math.ceil(self._origin / spacing)
        last = math.floor((self._origin + self._length) / spacing)
        values = np.arange(first, last + 1) * spacing
        return [
            Tick(float(percent), f"{value:,.10g}")
            for value, percent in zip(values, self.percent(values), strict=True)
        ]


# ----------------------------------------------------------------------------------- spectrograms


def spectrograms(*log_mels: np.ndarray) -> tuple[str, ...]:
    """PNG data URIs of log-mels [n, m], low bands below, on one scale of colour.

    The loudest value of all of them has the last colour, what is `DYNAMIC_RANGE_DB` below it the
    first. Values that are not finite count as silence, and silence alone stays dark.
    """
    finite = [
        np.where(np.isfinite(log_mel), log_mel, _LOG_SILENCE).astype(np.float64)
        for log_mel in log_mels
    ]
    span = DYNAMIC_RANGE_DB / _DECIBELS_PER_NEPER
    top = max(_LOG_SILENCE + span, *(log_mel.max() for log_mel in finite))
    levels = (np.clip((log_mel - top) / span + 1, 0, 1) for log_mel in finite)
    return tuple(_png((level.T[::-1] * (_PALETTE_SIZE - 1)).astype(np.uint8)) for level in levels)


def frequency_ticks(num_bands: int) -> list[Tick]:
    """Where frequencies lie, from the bottom, on a picture of `num_bands` Slaney mel bands."""
    # Band i, drawn from i to i + 1, peaks at edge i + 1 of the filterbank's num_bands + 2.
    edges_hertz = librosa.mel_frequencies(num_bands + 2, fmin=0.0, fmax=mel.MAX_HERTZ)
    positions = np.arange(num_bands + 2) - 0.5
    return [
        Tick(100 * float(np.interp(1000 * khz, edges_hertz, positions)) / num_bands, f"{khz:g}")
        for khz in _FREQUENCY_TICKS_KHZ
    ]


def _png(levels: np.ndarray) -> str:
    """PNG data URI of uint8 [height, width], each an entry of the palette."""
    positions = np.linspace(0, len(_PALETTE_ANCHORS) - 1, _PALETTE_SIZE)
    channels = [
        np.interp(positions, range(len(_PALETTE_ANCHORS)), channel)
        for channel in np.transpose(_PALETTE_ANCHORS)
    ]
    image = require("PIL.Image", _EXTRA).fromarray(np.ascontiguousarray(levels))
    image.putpalette(np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return data_uri("image/png", buffer.getvalue())
