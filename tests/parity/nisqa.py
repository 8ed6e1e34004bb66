"""NISQA and its log-mels against `nisqa.npz`."""

from collections.abc import Iterator

import numpy as np
from flax import nnx

from tests.parity import formula
from tests.parity.golden import FORWARD, Golden, Row
from vssflow_jax.networks.nisqa import BANDS, NISQA, frames_of, log_mel, segments_of

SAMPLES = {8_000: 6_000, 16_000: 32_000, 48_000: 60_000}  # a second -> of a sound
EACH = 7  # frame of the log-mels is there


def check(golden: Golden) -> Iterator[Row]:
    """Rows for the log-mels of sounds of three rates, and for their scores, in one batch."""
    mels = []
    for rate, samples in SAMPLES.items():
        waveform = 0.5 * formula.noise(golden, f"waveform_{rate}", (samples,))
        waveform[samples // 3 : samples // 2] = 0
        mels.append(log_mel(waveform, rate))
        yield golden.row(f"out/mel_{rate}", mels[-1][::EACH], FORWARD)
    counts = np.array([segments_of(len(mel)) for mel in mels], np.int32)
    padded = np.zeros((len(mels), frames_of(int(counts.max())), BANDS), np.float32)
    for row, mel in zip(padded, mels, strict=True):
        row[: len(mel)] = mel
    network = formula.network(golden, "nisqa")
    scores = nnx.jit(NISQA.__call__)(network, padded, segments=counts)
    yield golden.row("out/scores", scores, FORWARD)
