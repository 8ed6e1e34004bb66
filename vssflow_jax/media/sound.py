"""The sound of a file, aligned with its pictures; and sounds to files of their own."""

from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from vssflow_jax.media.container import EXTRA, audio_stream, located, opened, seek
from vssflow_jax.media.track import decoded, start_sec
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, whole
from vssflow_jax.utils.optional import require

_MICROSECONDS: Final = 1_000_000
"""Unit of a container's start time."""
_CANCELLED: Final = 0.1
"""A mix that is weaker than its louder channel by this factor (-20 dB) has been cancelled."""
_VOICE_MIN_SEC: Final = 0.3
_SILENCE: Final = 1e-4
"""Full scale is 1; what stays below -80 dB is silence."""
_EARLY_SEC: Final = 1
"""How long before a piece its reading begins: decoders need a while to be in tune."""
_WITHOUT_LENGTH: Final = ("aac", "ac3", "dts", "eac3", "mp3")
"""What FFmpeg calls formats of packets alone: it guesses a length from the rate of the first."""
_GAP_SEC: Final = 0.02
"""How far a file's times may be from those of its samples: they are rounded, and clocks drift."""


def read_audio(path: str | Path, sampling_rate: int) -> np.ndarray:
    """Reads the sound as mono, resampled, aligned with the pictures if there are any.

    Two channels that cancel each other, one being the other with its sign turned, are not mixed:
    the louder one is taken.

    An encoder's priming samples and what sounds before the first picture are dropped; a late start
    and gaps are filled with zeros, so that sample k sounds at k / sampling_rate seconds after the
    first picture, or after the start of a file without pictures.

    Returns:
      Waveform, float32 [n], full scale 1.

    Raises:
      UserError: the file is missing, unreadable, or has no audio.
    """
    path, cut = located(path)
    zero_sec = start_sec(path)
    with opened(path) as container:
        stream = audio_stream(container, path)
        if zero_sec is None:
            zero_sec = Fraction(container.start_time or 0, _MICROSECONDS)
        begin_sec, end_sec = cut or (Fraction(0), None)
        until_sec = None if end_sec is None else float(zero_sec + end_sec)
        zero_sec += begin_sec
        if begin_sec:
            _seek(container, stream, zero_sec)
        pieces = _pieces(container, stream, sampling_rate, until_sec)
        if not any(len(piece) for _, piece in pieces):
            if cut:
                raise UserError(f"{path}: it has no sound between the times of the piece")
            raise UserError(f"{path}: its audio stream has no samples; replace the file")
        first_sec = pieces[0][0] - float(zero_sec)
        channels = np.zeros((0, pieces[0][1].shape[1]), np.float32)
        for time_sec, piece in pieces:
            start = round((time_sec - float(zero_sec)) * sampling_rate)
            piece, start = piece[max(-start, 0) :], max(start, 0)
            missing = start + len(piece) - len(channels)
            channels = np.pad(channels, ((0, max(missing, 0)), (0, 0)))
            channels[start : start + len(piece)] = piece
        waveform = mono(channels)
        # The last AAC frame is padded to full length; the stream's duration is the true one.
        if stream.duration is not None and container.format.name not in _WITHOUT_LENGTH:
            if begin_sec:  # Not all of it has been read.
                first_sec = float((stream.start_time or 0) * stream.time_base - zero_sec)
            duration_sec = first_sec + float(stream.duration * stream.time_base)
            waveform = waveform[: max(round(duration_sec * sampling_rate), 0)]
        length = None if end_sec is None else round((end_sec - begin_sec) * sampling_rate)
        return waveform[:length]


def audio_rate(path: str | Path) -> int:
    """Samples a second that the sound of a file has.

    Raises:
      UserError: the file is missing, unreadable, or has no audio.
    """
    path, _ = located(path)
    with opened(path) as container:
        return int(audio_stream(container, path).rate)


def read_voice(path: str | Path, sampling_rate: int, longest_sec: float) -> np.ndarray:
    """Reads the start of a speaker's sample.

    Returns:
      Waveform, float32 [n], full scale 1.

    Raises:
      UserError: as `read_audio`; or nobody can be known by the sample, since it is too short,
        silent, or not of finite numbers.
    """
    waveform = read_audio(path, sampling_rate)[: round(longest_sec * sampling_rate)]
    if not np.isfinite(waveform).all():
        raise UserError(f"voice {path}: it holds NaN or infinity; replace the file")
    if len(waveform) < _VOICE_MIN_SEC * sampling_rate:
        raise UserError(
            f"voice {path}: it lasts {len(waveform) / sampling_rate:.3f} s; take at least "
            f"{_VOICE_MIN_SEC} s of the speaker"
        )
    if np.abs(waveform).max() < _SILENCE:
        raise UserError(f"voice {path}: its first {longest_sec:g} s are silent; cut them off")
    return waveform


def write_wav(path: str | Path, samples: np.ndarray, sampling_rate: int) -> None:
    """Writes a sound [n], float of full scale 1 or int16, as 16-bit samples.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        with whole(as_path(path)) as partial:
            soundfile.write(partial, samples, sampling_rate, format="WAV")
    except (soundfile.SoundFileError, OSError) as error:
        raise UserError(f"{path}: cannot be written ({error})") from error


def _seek(container: Any, stream: Any, time_sec: Fraction) -> None:
    """Goes to a packet that is heard a little before a time, if the container finds it."""
    early_sec = time_sec - _EARLY_SEC
    if early_sec > 0 and seek(container, stream, early_sec):
        frame = next(decoded(container, stream), None)
        found = frame is not None and frame.time is not None and frame.time <= time_sec
        seek(container, stream, early_sec if found else Fraction(0))


def _pieces(
    container: Any, stream: Any, sampling_rate: int, until_sec: float | None
) -> list[tuple[float, np.ndarray]]:
    """Stretches of sound without a gap [n, channels], and the seconds at which each begins.

    What begins after `until_sec` is left out. There are two channels of stereo sound, and one of
    all other.
    """
    av = require("av", EXTRA)
    pieces: list[tuple[float, np.ndarray]] = []
    resampler, begin_sec, end_sec = None, 0.0, 0.0
    parts: list[Any] = []
    channels, layout = (2, "stereo") if stream.channels == 2 else (1, "mono")
    for frame in decoded(container, stream):
        time_sec = end_sec if frame.time is None else frame.time
        if until_sec is not None and time_sec > until_sec:
            break
        if resampler is None or abs(time_sec - end_sec) > _GAP_SEC:
            if resampler is not None:
                parts += resampler.resample(None)
                pieces.append((begin_sec, _joined(parts, channels)))
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=sampling_rate)
            parts, begin_sec, end_sec = [], time_sec, time_sec
        parts += resampler.resample(frame)
        end_sec += frame.samples / frame.sample_rate
    if resampler is not None:
        parts += resampler.resample(None)
        pieces.append((begin_sec, _joined(parts, channels)))
    return pieces


def _joined(frames: list[Any], channels: int) -> np.ndarray:
    samples = [frame.to_ndarray().T for frame in frames]
    return np.concatenate(samples) if samples else np.zeros((0, channels), np.float32)


def mono(channels: np.ndarray) -> np.ndarray:
    """Channels [n, channels] mixed to float32 [n], unless they cancel each other."""
    mix = channels.mean(axis=1)
    loudest = max(channels.T, key=np.linalg.norm)
    cancelled = np.linalg.norm(mix) < _CANCELLED * np.linalg.norm(loudest)
    return loudest.copy() if cancelled else mix
