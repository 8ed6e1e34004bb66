"""Reading and writing of video files with sound, through PyAV (the `demo` extra).

Every function works on whole clips in memory. Files are written beside their final place under a
temporary name and renamed, so that an interrupted run leaves no half of a file behind.
"""

import itertools
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import soundfile

from vssflow_jax.errors import UserError
from vssflow_jax.optional import require

_EXTRA: Final = "demo"
_VIDEO_OPTIONS: Final = {
    "crf": "20",
    "preset": "veryfast",
    "tune": "zerolatency",
    "threads": "1",
}
"""For equal bytes from equal input. With several threads the file depends on the machine, and with
x264's lookahead, which the tuning switches off, about one file in 600 differs from run to run."""
_AUDIO_BIT_RATE: Final = 64_000
_MICROSECONDS: Final = 1_000_000
"""Unit of a container's start time."""
_ROUNDING_SEC: Final = 1e-6


class View(NamedTuple):
    """How the pictures of a video are taken.

    Attributes:
      rate: pictures a second.
      size: height and width that each is stretched to; None leaves it as it is.
      filter: how it is stretched, by its name in FFmpeg.
    """

    rate: float
    size: tuple[int, int] | None = None
    filter: str = "BILINEAR"


def read_video(path: str | Path) -> tuple[np.ndarray, float]:
    """Reads all frames of the first video stream.

    Returns:
      Frames, uint8 [n, h, w, 3] RGB, and the average frame rate in frames/s.

    Raises:
      UserError: the file is missing, unreadable, or has no video.
    """
    with _open(path) as container:
        stream = _first_stream(container.streams.video, "video", path)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        if not frames:
            raise UserError(f"{path}: its video stream has no frames; replace the file")
        return np.stack(frames), float(stream.average_rate)


def read_frames(
    path: str | Path, views: Iterable[View], max_sec: float
) -> tuple[dict[View, np.ndarray], float]:
    """Reads pictures of the first video stream at even times, whatever its own frame rate.

    Picture k of a view is the one whose time is nearest to k / rate seconds after the start of the
    file. Only those that are wanted are kept in memory.

    Args:
      path: any container that PyAV reads.
      views: the ways in which pictures are wanted.
      max_sec: where to stop.

    Returns:
      For each view uint8 [n, h, w, 3] RGB; and how long the video is, `max_sec` at most.

    Raises:
      UserError: the file is missing, unreadable, or has no video.
    """
    with _open(path) as container:
        stream = _first_stream(container.streams.video, "video", path)
        stream.thread_type = "AUTO"
        pictures: dict[View, list[np.ndarray]] = {view: [] for view in views}
        start_sec = (container.start_time or 0) / _MICROSECONDS
        size, end_sec = None, 0.0
        for frame, until_sec in _spans(container.decode(stream), stream.average_rate, path):
            end_sec = min(until_sec - start_sec, max_sec)
            size = size or (frame.height, frame.width)
            for view, taken in pictures.items():
                num_due = math.ceil((end_sec - _ROUNDING_SEC) * view.rate)
                if num_due > len(taken):
                    height, width = view.size or size
                    picture = frame.to_ndarray(
                        format="rgb24", height=height, width=width, interpolation=view.filter
                    )
                    taken += [picture] * (num_due - len(taken))
            if end_sec == max_sec:
                break
        if end_sec <= _ROUNDING_SEC:
            raise UserError(f"{path}: its video stream has no frames; replace the file")
        return {view: np.stack(taken) for view, taken in pictures.items()}, end_sec


def read_audio(path: str | Path, sampling_rate: int) -> np.ndarray:
    """Reads the first audio stream as mono, resampled, aligned with the start of the file.

    An encoder's priming samples are dropped and a late start of the stream is filled with zeros,
    so that sample k sounds at k / sampling_rate seconds after the first picture.

    Returns:
      Waveform, float32 [n], full scale 1.

    Raises:
      UserError: the file is missing, unreadable, or has no audio.
    """
    av = require("av", _EXTRA)
    with _open(path) as container:
        stream = _first_stream(container.streams.audio, "audio", path)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=sampling_rate)
        start_sec: float | None = None
        pieces = []
        for frame in container.decode(stream):
            if start_sec is None:
                start_sec = (frame.time or 0.0) - (container.start_time or 0) / _MICROSECONDS
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        if start_sec is not None:
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
        if start_sec is None or not pieces:
            raise UserError(f"{path}: its audio stream has no samples; replace the file")
        waveform = np.concatenate(pieces)
        waveform = np.pad(waveform, (max(round(start_sec * sampling_rate), 0), 0))
        # The last AAC frame is padded to full length; the stream's duration is the true one.
        if stream.duration is not None:
            duration_sec = start_sec + float(stream.duration * stream.time_base)
            waveform = waveform[: round(duration_sec * sampling_rate)]
        return waveform


def write_video(
    path: str | Path, frames: np.ndarray, fps: float, waveform: np.ndarray, sampling_rate: int
) -> None:
    """Writes an mp4 file of H.264 (yuv420p) and mono AAC; equal input gives equal bytes.

    Args:
      path: the file to write; its folder exists.
      frames: uint8 [n, h, w, 3] RGB, h and w even.
      fps: frames per second.
      waveform: float [m], full scale 1; louder samples are clipped.
      sampling_rate: of the waveform, in Hz.

    Raises:
      UserError: the file cannot be written.
    """
    with _create(path) as container:
        video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.options = _VIDEO_OPTIONS
        audio = _add_audio(container, sampling_rate)
        av = require("av", _EXTRA)
        for pixels in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        _encode_audio(container, audio, waveform, sampling_rate)


def write_wav(path: str | Path, samples: np.ndarray, sampling_rate: int) -> None:
    """Writes a sound [n], float of full scale 1 or int16, as 16-bit samples.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        soundfile.write(path, samples, sampling_rate)
    except (soundfile.SoundFileError, OSError) as error:
        raise UserError(f"{path}: cannot be written ({error})") from error


def replace_audio(
    video_path: str | Path, waveform: np.ndarray, sampling_rate: int, out_path: str | Path
) -> None:
    """Copies a file's video stream bit for bit and gives it a new sound track.

    Args:
      video_path: any container that PyAV reads.
      waveform: float [m], full scale 1; cut or filled with zeros to the video's duration.
      sampling_rate: of the waveform, in Hz.
      out_path: the mp4 file to write; its folder exists.

    Raises:
      UserError: the input is missing, unreadable or has no video, or the output cannot be written.
    """
    with _open(video_path) as source, _create(out_path) as target:
        stream = _first_stream(source.streams.video, "video", video_path)
        video = target.add_stream_from_template(stream)
        audio = _add_audio(target, sampling_rate)
        for packet in source.demux(stream):
            if packet.dts is not None:  # The last packet of a demuxer is an empty flush marker.
                packet.stream = video
                target.mux(packet)
        if stream.duration is not None:
            num_samples = round(float(stream.duration * stream.time_base) * sampling_rate)
            waveform = np.pad(waveform[:num_samples], (0, max(num_samples - len(waveform), 0)))
        _encode_audio(target, audio, waveform, sampling_rate)


@contextmanager
def _open(path: str | Path) -> Iterator[Any]:
    """Opens a file for reading; FFmpeg's errors, also those of decoding, become UserErrors."""
    av = require("av", _EXTRA)
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); replace the file") from error


@contextmanager
def _create(path: str | Path) -> Iterator[Any]:
    """Opens an mp4 file for writing; it appears under its name only when it is whole."""
    av = require("av", _EXTRA)
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.mp4")
    try:
        with av.open(str(partial), "w", format="mp4") as container:
            yield container
        os.replace(partial, path)
    except av.FFmpegError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        partial.unlink(missing_ok=True)


def _first_stream(streams: Any, kind: str, path: str | Path) -> Any:
    if not streams:
        raise UserError(f"{path}: has no {kind} stream")
    return streams[0]


def _spans(
    frames: Iterator[Any], rate: Fraction | None, path: str | Path
) -> Iterator[tuple[Any, float]]:
    """Frames, and the time in seconds until which each is the nearest one.

    The last one lasts as long as frames do on average.
    """
    for frame, following in itertools.pairwise(itertools.chain(frames, [None])):
        if frame.time is None:
            raise UserError(f"{path}: its frames have no times; convert it to mp4")
        if following is None or following.time is None:
            yield frame, frame.time + (1 / float(rate) if rate else 0.0)
        else:
            yield frame, (frame.time + following.time) / 2


def _add_audio(container: Any, sampling_rate: int) -> Any:
    stream = container.add_stream("aac", rate=sampling_rate, layout="mono")
    stream.bit_rate = _AUDIO_BIT_RATE
    return stream


def _encode_audio(container: Any, stream: Any, waveform: np.ndarray, sampling_rate: int) -> None:
    av = require("av", _EXTRA)
    samples = np.clip(np.asarray(waveform, np.float32), -1.0, 1.0)[None, :]
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
    frame.sample_rate = sampling_rate
    frame.pts = 0
    frame.time_base = Fraction(1, sampling_rate)
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
