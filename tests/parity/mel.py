"""The log-mel front end against `mel.npz`."""

from collections.abc import Iterator

import numpy as np

from tests.parity.golden import EXACT, FORWARD, Golden, Row
from vssflow_jax.audio.mel import HOP, log_mel, padded

SHORT_SAMPLES = 24_000
SILENT_SAMPLES = 4_000


def check(golden: Golden) -> Iterator[Row]:
    """A row for whole, short, cut and silent sounds, and for what they are padded to."""
    waveform = golden["in/waveform"]
    frames = waveform.shape[1] // HOP
    yield golden.row("out/log_mel", log_mel(waveform, frames), FORWARD)
    short = log_mel(waveform[:, :SHORT_SAMPLES], frames)
    yield golden.row("out/log_mel_short", short, FORWARD)
    yield golden.row("out/log_mel_cut", log_mel(waveform, frames // 2), FORWARD)
    silence = log_mel(np.zeros((1, SILENT_SAMPLES), np.float32), frames // 2)[0]
    yield golden.row("out/log_mel_silence_frame", silence[0], FORWARD)
    yield golden.row("out/log_mel_silence_last", silence[-1], FORWARD)
    whole = padded(waveform)
    start = golden["out/waveform_padded_first2000"].shape[1]
    yield golden.row("out/waveform_padded_first2000", whole[:, :start], FORWARD)
    yield golden.row("out/waveform_padded_len", whole.shape[1], EXACT)
