"""The same pictures with another sound.

What is written is planned: whether the coded pictures can be copied bit for bit is tried on the
first of them, read back, before anyone spends time on a sound.
"""

import dataclasses
import io
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from vssflow_jax.media.container import EXTRA, FORMATS, created, exact, opened, reading
from vssflow_jax.media.encode import add_audio, encode_audio, encode_pictures
from vssflow_jax.media.track import Track, Turn, decoded, read_track
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.utils.optional import require

_AUDIO_CODECS: Final = {".mp4": "aac", ".mov": "aac", ".mkv": "flac"}
"""AAC begins with priming, which an edit list of mp4 and mov takes away; players disagree about
Matroska's way to say it, and FLAC needs none."""
_TRIED: Final = 32
"""Pictures that are written and read back by way of trial."""
_CLOSE_SEC: Final = 0.001
"""Matroska counts in milliseconds."""
_MAX_REORDERING: Final = 32
_TRIAL_RATE: Final = 16_000
_TRIAL_SAMPLES: Final = 4096
_NARROW: Final = 1
"""FFmpeg's number of the range of colours that television has."""
_SAME_FAMILY: Final = ("mp4", "mov")


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a video gets another sound.

    Attributes:
      track: the pictures.
      suffix: suffix of the container to write, one of `container.SUFFIXES`.
      tag: FFmpeg's name of the codec in that container; None leaves it to the muxer.
      obstacle: why the coded pictures cannot be copied, and are encoded to H.264; empty if they
        are copied bit for bit.
    """

    track: Track
    suffix: str
    tag: str | None = None
    obstacle: str = ""

    def write(self, path: str | Path, waveform: np.ndarray, sampling_rate: int) -> None:
        """Writes the pictures and a sound that begins and ends with them.

        Args:
          path: the file to write, of the planned suffix; its folder exists.
          waveform: float [m], full scale 1; cut or filled with zeros to the video's duration.
          sampling_rate: sampling rate of the waveform, in Hz.

        Raises:
          UserError: the video can no longer be read, or the file cannot be written.
        """
        num_samples = round(self.track.duration * sampling_rate)
        waveform = np.pad(waveform[:num_samples], (0, max(num_samples - len(waveform), 0)))
        with opened(self.track.path) as source, created(path) as target:
            _mux(self, source, target, waveform, sampling_rate)


def plan(track: Track, suffix: str) -> Plan:
    """How the pictures of a video can be written with another sound.

    Args:
      track: the pictures.
      suffix: suffix of the file to write, one of `container.SUFFIXES`.

    Raises:
      UserError: there is no way.
    """
    obstacle = _uncopiable(track)
    if not obstacle:
        for tag in _tags(track, suffix):
            copied = Plan(track, suffix, tag)
            obstacle = _try(copied)
            if not obstacle:
                return copied
    encoded = Plan(track, suffix, obstacle=obstacle)
    failure = _try(encoded)
    if failure:
        raise UserError(
            f"{track.path}: cannot be written as {suffix}, neither copied ({obstacle}) nor "
            f"encoded ({failure})"
        )
    return encoded


def replace_audio(
    video_path: str | Path, waveform: np.ndarray, sampling_rate: int, out_path: str | Path
) -> None:
    """Writes the pictures of a video with a new sound, copied bit for bit where that is possible.

    Args:
      video_path: any container that PyAV reads.
      waveform: float [m], full scale 1; cut or filled with zeros to the video's duration.
      sampling_rate: sampling rate of the waveform, in Hz.
      out_path: the file to write, .mp4, .mkv or .mov; its folder exists.

    Raises:
      UserError: the input is missing, unreadable or has no video, or the output cannot be written.
    """
    planned = plan(read_track(video_path), as_path(out_path).suffix.lower())
    planned.write(out_path, waveform, sampling_rate)


# ------------------------------------------------------------------------------------- muxing
def _mux(
    planned: Plan,
    source: Any,
    target: Any,
    waveform: np.ndarray,
    sampling_rate: int,
    limit: int | None = None,
) -> None:
    """Writes pictures, the first `limit` packets of them if it is given, beside the sound."""
    if planned.obstacle:
        pictures = encode_pictures(planned.track, target)
    else:
        pictures = _copied(planned, source, target)
    audio = add_audio(target, _AUDIO_CODECS[planned.suffix], sampling_rate)
    sounds = encode_audio(audio, waveform, sampling_rate)
    heard = 0
    for picture in itertools.islice(pictures, limit):
        seen_sec = picture.dts * float(picture.time_base)
        while heard < len(sounds) and sounds[heard].dts <= seen_sec * sampling_rate:
            target.mux(sounds[heard])
            heard += 1
        target.mux(picture)
    for sound in sounds[heard:]:
        target.mux(sound)


def _copied(planned: Plan, source: Any, target: Any) -> Iterator[Any]:
    """Adds a stream like that of the source; gives its packets, whose times begin at 0."""
    track = planned.track
    stream = source.streams[track.stream]
    video = target.add_stream_from_template(stream, opaque=True)
    if planned.tag:
        video.codec_context.codec_tag = planned.tag
    # Some containers know what the coded pictures do not say.
    video.sample_aspect_ratio = track.aspect
    return _retimed(track, source.demux(stream), video)


def _retimed(track: Track, packets: Iterator[Any], stream: Any) -> Iterator[Any]:
    coded = list(zip(_kept(track), _decode_times(track), track.packets, strict=True))
    decode_times = [dts for keep, dts, _ in coded if keep]
    shown = sorted({packet.pts for keep, _, packet in coded if keep and packet.pts is not None})
    durations = {a: b - a for a, b in itertools.pairwise([*shown, track.end])}
    # The muxer of mp4 has each last until the next one is decoded, and the last one so long that
    # all of them last as long as they are shown.
    last_duration = track.end - shown[0] - (decode_times[-1] - decode_times[0])
    times = iter(coded)
    with reading(track.path):
        for packet in packets:
            if not packet.size:  # The last of a stream is an empty one.
                continue
            keep, dts, known = next(times)
            if keep and known.pts is not None:
                last = dts == decode_times[-1]
                packet.duration = max(last_duration if last else durations[known.pts], 1)
                packet.pts, packet.dts = known.pts - track.zero, dts - track.zero
                packet.stream = stream
                yield packet


def _kept(track: Track) -> list[bool]:
    """Which packets are copied: not those that need others from before a cut to be decoded."""
    first = next((index for index, packet in enumerate(track.packets) if packet.key), 0)
    return [
        index >= first and (packet.hidden or packet.pts is None or packet.pts >= track.zero)
        for index, packet in enumerate(track.packets)
    ]


def _decode_times(track: Track) -> Sequence[int]:
    """When each packet is decoded, in units: rising, and no later than it is shown.

    They are the file's own if they are so.

    Raises:
      UserError: there are no such times.
    """
    shown = [packet.pts for packet in track.packets if packet.pts is not None]
    decoded = [packet.dts for packet in track.packets if packet.dts is not None]
    if len(decoded) == len(shown) and _in_order(decoded, shown):
        return decoded
    ordered = sorted(shown)
    step = max((ordered[-1] - ordered[0]) // max(len(ordered) - 1, 1), 1)
    for depth in range(min(_MAX_REORDERING, len(ordered))):
        early = [ordered[0] - step * (depth - index) for index in range(depth)]
        decoded = [*early, *ordered[: len(ordered) - depth]]
        if _in_order(decoded, shown):
            return decoded
    raise UserError(f"{track.path}: its packets are in no order in which they can be decoded")


def _in_order(decoded: Sequence[int], shown: Sequence[int]) -> bool:
    rising = all(a < b for a, b in itertools.pairwise(decoded))
    return rising and all(a <= b for a, b in zip(decoded, shown, strict=True))


# -------------------------------------------------------------------------------------- trials
def _uncopiable(track: Track) -> str:
    """What about the times of pictures forbids to copy them; empty if nothing does."""
    if track.start is not None:
        return "it is a piece of a file"
    if track.ranked is not None:
        return "the file does not say when each of its packets is shown"
    if any(packet.hidden and (packet.pts or 0) > track.zero for packet in track.packets):
        return "its edit list leaves out pictures between others"
    try:
        _decode_times(track)
    except UserError:
        return "its packets are in no order in which they can be decoded"
    return ""


def _tags(track: Track, suffix: str) -> list[str | None]:
    """Names of the codec to try: the source's own first, for files that differ in nothing else."""
    if FORMATS[suffix] not in _SAME_FAMILY:
        return [None]
    with opened(track.path) as container:
        stream = container.streams[track.stream]
        own = stream.codec_tag if "mov" in container.format.name else None
        # Apple's players want this name, which says that parameters are in the header.
        named = "hvc1" if stream.codec_context.codec.canonical_name == "hevc" else None
    return list(dict.fromkeys([own or named, None]))


def _try(planned: Plan) -> str:
    """Writes the first pictures to memory and reads them back; says what is wrong, if anything."""
    av = require("av", EXTRA)
    track, memory = planned.track, io.BytesIO()
    kept = [packet for packet, keep in zip(track.packets, _kept(track), strict=True) if keep]
    limit = _TRIED + sum(packet.hidden for packet in kept)
    silence = np.zeros(_TRIAL_SAMPLES, np.float32)
    with opened(track.path) as source:
        try:
            with av.open(memory, "w", format=FORMATS[planned.suffix]) as target:
                _mux(planned, source, target, silence, _TRIAL_RATE, limit)
            memory.seek(0)
            with av.open(memory) as container:
                times_sec = _times_sec(container.demux(container.streams.video[0]))
            memory.seek(0)
            with av.open(memory) as container:
                written = _Look.of(container, 0)
        except (av.FFmpegError, ValueError) as error:
            return str(getattr(error, "strerror", None) or error)
    if planned.obstacle:
        return ""
    with opened(track.path) as source:
        wanted = _Look.of(source, track.stream)
    expected_sec = sorted(
        float((packet.pts - track.zero) * track.time_base)
        for packet in kept[:limit]
        if packet.pts is not None and not packet.hidden
    )
    if len(times_sec) != len(expected_sec) or not np.allclose(
        times_sec, expected_sec, rtol=0, atol=_CLOSE_SEC
    ):
        return f"{planned.suffix} does not keep its times"
    lost = [name for name in _Look._fields if getattr(written, name) != getattr(wanted, name)]
    return f"{planned.suffix} does not keep its {lost[0]}" if lost else ""


class _Look(NamedTuple):
    """What a player knows of pictures beside their times.

    Attributes:
      codec: name of it.
      format: format of the pixels.
      size: height and width, as stored.
      aspect: width of a stored pixel over its height.
      rotation: how they are turned to be shown.
      colours: range, primaries, transfer and matrix by FFmpeg's numbers.
    """

    codec: str
    format: str
    size: tuple[int, int]
    aspect: Fraction
    rotation: Turn
    colours: tuple[int, ...]

    @classmethod
    def of(cls, container: Any, index: int) -> "_Look":
        """By the first picture of a stream."""
        stream = container.streams[index]
        codec = stream.codec_context.codec.canonical_name
        frame = next(decoded(container, stream), None)
        if frame is None:
            raise ValueError("its first pictures cannot be decoded")
        return cls(
            codec,
            frame.format.name,
            (frame.height, frame.width),
            exact(stream.sample_aspect_ratio) or Fraction(1),
            Turn.of(frame),
            # A range that is not named is the narrow one.
            (
                frame.color_range or _NARROW,
                frame.color_primaries,
                frame.color_trc,
                frame.colorspace,
            ),
        )


def _times_sec(packets: Iterator[Any]) -> list[float]:
    """When the pictures of packets are shown, in order."""
    return sorted(
        packet.pts * float(packet.time_base)
        for packet in packets
        if packet.pts is not None and not packet.is_discard
    )
