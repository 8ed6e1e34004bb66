"""Onset F1: does a sound happen when the picture says so?

Onsets are found in the sound alone; the reference times are those of the drawn events. The
settings below were chosen on ground-truth sounds and on their Griffin-Lim reconstructions, never on
generated ones.
"""

import librosa
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vssflow_jax.utils.optional import require

WINDOW_SEC = 0.1  # how far an estimated onset may lie from the reference

# Analysis: short windows, since a transient is to be placed in time rather than in frequency.
FRAME_SEC = 0.032
HOP_SEC = 0.010
BANDS = 40
DYNAMIC_RANGE_DB = 45.0  # what lies further below the loudest band and frame is noise or a tail
SILENCE_PEAK = 0.003  # a waveform that never exceeds this (-50 dBFS) has no onsets

# Picking: an onset is a local maximum of the rise in level, averaged over bands.
RISE_SPAN_SEC = 0.030  # over which the rise is taken: a smeared attack still counts in full
MIN_RISE_DB = 4.0  # above the mean rise around it
CONTEXT_SEC = 0.100  # on both sides, for that mean and for the local maximum
MIN_GAP_SEC = 0.150


def detect_onsets(waveform: NDArray[np.float32], sampling_rate: int) -> NDArray[np.float64]:
    """Times of the onsets in a sound.

    Args:
      waveform: float32 [n], any level.
      sampling_rate: samples per second.

    Returns:
      Ascending times in seconds [k]; none for a sound that is nearly silent or under 32 ms long.
    """
    hop, frame = round(HOP_SEC * sampling_rate), round(FRAME_SEC * sampling_rate)
    if len(waveform) < frame or np.abs(waveform).max() < SILENCE_PEAK:
        return np.zeros(0)
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=sampling_rate,
        n_fft=frame,
        hop_length=hop,
        n_mels=BANDS,
    )
    level_db = librosa.power_to_db(power, ref=np.max, top_db=DYNAMIC_RANGE_DB)  # [bands, frames]
    rise_db = librosa.onset.onset_strength(
        S=level_db, lag=_frames(RISE_SPAN_SEC), max_size=3, center=False
    )
    return _peaks(rise_db) * hop / sampling_rate


def _peaks(rise_db: NDArray[np.floating]) -> NDArray[np.int64]:
    """Frames that are local maxima well above the mean around them, as `librosa.util.peak_pick`.

    Not that function itself: numba keeps what it compiles of it in two files, and where two
    processes import librosa for the first time at once, one file of each may stay, and from then on
    the function ends the process.
    """
    context, gap = _frames(CONTEXT_SEC), _frames(MIN_GAP_SEC)
    peaks = []
    frame = 0
    while frame < len(rise_db):
        around = rise_db[max(0, frame - context) : frame + context]
        if rise_db[frame] == around.max() and rise_db[frame] >= around.mean() + MIN_RISE_DB:
            peaks.append(frame)
            frame += gap
        frame += 1
    return np.array(peaks, np.int64)


def _frames(duration_sec: float) -> int:
    return round(duration_sec / HOP_SEC)


def count_matches(
    reference_times_sec: ArrayLike, estimated_times_sec: ArrayLike, window_sec: float = WINDOW_SEC
) -> int:
    """How many onsets of a clip match: F1 is 2 matches / (k + l), recall matches / k.

    Args:
      reference_times_sec, estimated_times_sec, window_sec: see `matched`.

    Raises:
      UserError: mir_eval is not installed.
    """
    return int(matched(reference_times_sec, estimated_times_sec, window_sec).sum())


def matched(
    reference_times_sec: ArrayLike, estimated_times_sec: ArrayLike, window_sec: float = WINDOW_SEC
) -> NDArray[np.bool_]:
    """Which of the true onsets of a clip are found: as many as can be, each by one of its own.

    Args:
      reference_times_sec: true times [k], ascending.
      estimated_times_sec: found times [l], ascending.
      window_sec: largest distance of a match; each time matches at most once.

    Returns:
      bool [k].

    Raises:
      UserError: mir_eval is not installed.
    """
    reference = np.asarray(reference_times_sec, dtype=float)
    estimated = np.asarray(estimated_times_sec, dtype=float)
    pairs = require("mir_eval.util", "demo").match_events(reference, estimated, window_sec)
    found = np.zeros(len(reference), bool)
    found[[index for index, _ in pairs]] = True
    return found
