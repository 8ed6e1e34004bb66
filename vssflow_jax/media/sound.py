"""The sound of a file, aligned with its pictures; and sounds to files of their own."""

from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from vssflow_jax.errors import UserError
from vssflow_jax.media.container import EXTRA, audio_stream, opened
from vssflow_jax.media.track import start_sec
from vssflow_jax.optional import require

_MICROSECONDS: Final = 1_000_000
"""Unit of a container's start time."""
_GAP_SEC: Final = 0.02
"""How far a file's times may be from those of its samples: they are rounded, and clocks drift."""


def read_audio(path: str | Path, sampling_rate: int) -> np.ndarray:
    """Reads the sound as mono, resampled, aligned with the pictures if there are any.

    An encoder's priming samples and what sounds before the first picture are dropped; a late start
    and gaps are filled with zeros, so that sample k sounds at k / sampling_rate seconds after the
    first picture, or after the start of a file without pictures.

    Returns:
      Waveform, float32 [n], full scale 1.

    Raises:
      UserError: the file is missing, unreadable, or has no audio.
    """
    zero_sec = start_sec(path)
    with opened(path) as container:
        stream = audio_stream(container, path)
        if zero_sec is None:
            zero_sec = Fraction(container.start_time or 0, _MICROSECONDS)
        pieces = _pieces(container, stream, sampling_rate)
        if not any(len(piece) for _, piece in pieces):
            raise UserError(f"{path}: its audio stream has no samples; replace the file")
        first_sec = pieces[0][0] - float(zero_sec)
        waveform = np.zeros(0, np.float32)
        for time_sec, piece in pieces:
            start = round((time_sec - float(zero_sec)) * sampling_rate)
            piece, start = piece[max(-start, 0) :], max(start, 0)
            missing = start + len(piece) - len(waveform)
            waveform = np.pad(waveform, (0, max(missing, 0)))
            waveform[start : start + len(piece)] = piece
        # The last AAC frame is padded to full length; the stream's duration is the true one.
        if stream.duration is not None:
            duration_sec = first_sec + float(stream.duration * stream.time_base)
            waveform = waveform[: max(round(duration_sec * sampling_rate), 0)]
        return waveform


def write_wav(path: str | Path, samples: np.ndarray, sampling_rate: int) -> None:
    """Writes a sound [n], float of full scale 1 or int16, as 16-bit samples.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        soundfile.write(path, samples, sampling_rate, format="WAV")
    except (soundfile.SoundFileError, OSError) as error:
        raise UserError(f"{path}: cannot be written ({error})") from error


def _pieces(container: Any, stream: Any, sampling_rate: int) -> list[tuple[float, np.ndarray]]:
    """Stretches of sound without a gap, and the seconds at which each begins."""
    av = require("av", EXTRA)
    pieces: list[tuple[float, np.ndarray]] = []
    resampler, begin_sec, end_sec = None, 0.0, 0.0
    parts: list[Any] = []
    for frame in container.decode(stream):
        time_sec = end_sec if frame.time is None else frame.time
        if resampler is None or abs(time_sec - end_sec) > _GAP_SEC:
            if resampler is not None:
                parts += resampler.resample(None)
                pieces.append((begin_sec, _joined(parts)))
            resampler = av.AudioResampler(format="flt", layout="mono", rate=sampling_rate)
            parts, begin_sec, end_sec = [], time_sec, time_sec
        parts += resampler.resample(frame)
        end_sec += frame.samples / frame.sample_rate
    if resampler is not None:
        parts += resampler.resample(None)
        pieces.append((begin_sec, _joined(parts)))
    return pieces


def _joined(frames: list[Any]) -> np.ndarray:
    samples = [frame.to_ndarray()[0] for frame in frames]
    return np.concatenate(samples) if samples else np.zeros(0, np.float32)
