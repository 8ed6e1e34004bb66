"""Pictures and sound to H.264 and AAC; equal input gives equal bytes."""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from vssflow_jax.media.container import EXTRA, created
from vssflow_jax.media.track import Track
from vssflow_jax.utils.optional import require

_VIDEO_OPTIONS: Final = {
    "crf": "20",
    "preset": "veryfast",
    "tune": "zerolatency",
    "threads": "1",
}
"""For equal bytes from equal input. With several threads the file depends on the machine, and with
x264's lookahead, which the tuning switches off, about one file in 600 differs from run to run."""
_AUDIO_BIT_RATE: Final = 64_000
_X264_FIELDS: Final = {2: "tff=1", 3: "bff=1", 4: "bff=1", 5: "tff=1"}
"""Which field is shown first, by FFmpeg's number for the order of fields."""


def write_video(
    path: str | Path, frames: np.ndarray, fps: float, waveform: np.ndarray, sampling_rate: int
) -> None:
    """Writes an mp4 file of H.264 (yuv420p) and mono AAC; equal input gives equal bytes.

    Args:
      path: the file to write; its folder exists.
      frames: uint8 [n, h, w, 3] RGB, h and w even.
      fps: frames per second.
      waveform: float [m], full scale 1; louder samples are clipped.
      sampling_rate: sampling rate of the waveform, in Hz.

    Raises:
      UserError: the file cannot be written.
    """
    with created(path) as container:
        video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.options = _VIDEO_OPTIONS
        audio = add_audio(container, "aac", sampling_rate)
        av = require("av", EXTRA)
        for pixels in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for packet in encode_audio(audio, waveform, sampling_rate):
            container.mux(packet)


def add_audio(container: Any, codec: str, sampling_rate: int) -> Any:
    """A mono stream for `encode_audio`."""
    stream = container.add_stream(codec, rate=sampling_rate, layout="mono")
    if codec == "aac":
        stream.bit_rate = _AUDIO_BIT_RATE
    return stream


def encode_audio(stream: Any, waveform: np.ndarray, sampling_rate: int) -> list[Any]:
    """Packets of a whole sound, float [m] of full scale 1; louder samples are clipped."""
    av = require("av", EXTRA)
    samples = np.clip(np.asarray(waveform, np.float32), -1.0, 1.0)[None, :]
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
    frame.sample_rate = sampling_rate
    frame.pts = 0
    frame.time_base = Fraction(1, sampling_rate)
    return [*stream.encode(frame), *stream.encode(None)]


def encode_pictures(track: Track, container: Any) -> Iterator[Any]:
    """Encodes a video's pictures to H.264, at their own times and turned as they are shown.

    A picture of odd height or width, which H.264 has not, gets its last row or column twice.

    Returns:
      Packets of the stream that is added to the container; their times begin at 0.

    Raises:
      UserError: while packets are taken, if the video cannot be decoded.
    """
    frames = _filtered(track)
    first = next(frames)
    rate = (max(len(track.packets), 1) / track.duration).limit_denominator(1001)
    video = container.add_stream("libx264", rate=rate, width=first.width, height=first.height)
    video.pix_fmt = "yuv420p"
    video.codec_context.time_base = track.time_base
    video.sample_aspect_ratio = 1 / track.aspect if track.turn.transposed else track.aspect
    for tag in ("color_range", "color_primaries", "color_trc", "colorspace"):
        setattr(video.codec_context, tag, getattr(first, tag))
    options = dict(_VIDEO_OPTIONS)
    if first.interlaced_frame and not track.turn.transposed and track.fields in _X264_FIELDS:
        options["x264-params"] = _X264_FIELDS[track.fields]
    video.options = options
    return _packets(track, video, itertools.chain([first], frames))


def _packets(track: Track, stream: Any, frames: Iterator[Any]) -> Iterator[Any]:
    """Packets of frames, each as long as it is shown; they come in the order of the frames."""
    waiting = None
    for packet in _encoded(stream, frames):
        if waiting is not None:
            waiting.duration = packet.pts - waiting.pts
            yield waiting
        waiting = packet
    if waiting is not None:
        waiting.duration = max(round(track.end - track.zero) - waiting.pts, 1)
        yield waiting


def _encoded(stream: Any, frames: Iterator[Any]) -> Iterator[Any]:
    before = -1
    for frame in frames:
        if frame.pts > before:  # Of two at the same time only one is seen.
            before = frame.pts
            yield from stream.encode(frame)
    yield from stream.encode(None)


def _filtered(track: Track) -> Iterator[Any]:
    """Frames as they are shown, yuv420p of even size; their times begin at 0."""
    av = require("av", EXTRA)
    graph = None
    for frame, time in track.shown():
        if graph is None:
            graph = _graph(track, frame)
        frame.pts = max(round(time / track.time_base), 0)
        frame.time_base = track.time_base
        graph.push(frame)
        yield graph.pull()
    if graph is None:
        raise av.error.InvalidDataError(0, "no frames", str(track.path))


def _graph(track: Track, frame: Any) -> Any:
    """A filter for frames like one, and for later ones of another size."""
    height, width = frame.height, frame.width
    scale = f"w={width}:h={height}:interl=-1"
    if frame.format.is_rgb or frame.format.has_palette:
        scale += ":out_color_matrix=bt709:out_primaries=bt709:out_transfer=bt709:out_range=tv"
    filters: list[tuple[str, str | None]] = [("scale", scale)]
    if track.turn.transposed:
        filters.append(("transpose", "dir=cclock_flip"))
    filters += [("vflip", None)] * track.turn.flipped + [("hflip", None)] * track.turn.mirrored
    height, width = track.turn.size(height, width)
    if height % 2 or width % 2:
        even = f"w={width + width % 2}:h={height + height % 2}"
        borders = f"right={width % 2}:bottom={height % 2}:mode=smear"
        # In full, for it pads nothing finer than a pixel of colour.
        filters += [("format", "pix_fmts=yuv444p"), ("pad", even), ("fillborders", borders)]
    filters.append(("format", "pix_fmts=yuv420p"))
    graph = require("av", EXTRA).filter.Graph()
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=track.time_base
    )
    for name, arguments in [*filters, ("buffersink", None)]:
        node = graph.add(name, arguments)
        last.link_to(node)
        last = node
    graph.configure()
    return graph
