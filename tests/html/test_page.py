"""What the HTML pages share: axes with round ticks, and spectrograms as pictures."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from vssflow_jax.audio import mel
from vssflow_jax.html import page

NUM_FRAMES = 30


@pytest.mark.parametrize(("low", "high"), [(0, 3), (1, 20_000), (0.48, 0.61), (0, 10)])
def test_ticks_are_few_round_and_on_the_axis(low: float, high: float) -> None:
    ticks = page.Axis(low, high).ticks()
    assert 2 <= len(ticks) <= 6
    for tick in ticks:
        value = float(tick.label.replace(",", ""))
        assert tick.percent == pytest.approx(100 * (value - low) / (high - low))
        assert len(tick.label.strip("0.,").replace(",", "").replace(".", "")) <= 2


def test_silent_or_broken_sound_is_dark() -> None:
    silent = np.full((NUM_FRAMES, mel.BANDS), math.log(mel.MIN_MAGNITUDE))
    broken = np.full((NUM_FRAMES, mel.BANDS), math.nan)
    for uri in page.spectrograms(silent, broken):
        content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
        assert not np.asarray(Image.open(io.BytesIO(content))).any()


def test_frequency_ticks_lie_on_their_bands() -> None:
    hertz = 1000.0
    tick = next(tick for tick in page.frequency_ticks(mel.BANDS) if tick.label == "1")
    # The band whose filter answers most to this frequency contains the tick.
    position = tick.percent / 100 * mel.BANDS
    fft_bin = round(hertz * mel.WINDOW / mel.SAMPLING_RATE)
    assert abs(int(np.argmax(mel.filterbank()[:, fft_bin])) + 0.5 - position) <= 0.5
