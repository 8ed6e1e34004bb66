"""When each picture of a file is shown, and which way up.

The time line begins with the first picture that is shown: start offsets, edit lists and pictures
that cannot be decoded at a cut are behind it.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from vssflow_jax.media.container import (
    EXTRA,
    exact,
    find_video,
    located,
    opened,
    seek,
    video_stream,
)
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

_MICROSECONDS: Final = 1_000_000
"""Unit of a container's duration."""
_MISSING_SEC: Final = 0.5
"""How much less than it says a file may hold: the last frames of its streams differ in length."""
_EARLY_SEC: Final = 1
"""How long before a piece its reading begins: key frames are found by when they are decoded."""
_RATE: Final = Fraction(25)
"""Pictures a second where nothing tells it."""


class Packet(NamedTuple):
    """Times of one coded picture, in the stream's unit.

    Attributes:
      pts: when it is shown; None if the file does not say.
      dts: when it is decoded; None if the file does not say.
      duration: how long it is shown; 0 if the file does not say.
      key: whether decoding can begin with it.
      hidden: whether an edit list leaves it out; others may need it nevertheless.
    """

    pts: int | None
    dts: int | None
    duration: int
    key: bool
    hidden: bool


class Turn(NamedTuple):
    """How pictures are turned to be shown: rows and columns change places, then both may flip."""

    transposed: bool = False
    flipped: bool = False
    mirrored: bool = False

    @classmethod
    def of(cls, frame: Any) -> "Turn":
        """By the frame's display matrix [[a, b, .], [c, d, .], ...]: x' = ax + cy, y' = bx + dy.

        An angle that is no quarter of a turn is shown as the nearest one.
        """
        kind = require("av", EXTRA).sidedata.sidedata.Type.DISPLAYMATRIX
        data = frame.side_data.get(kind)
        if data is None:
            return cls()
        a, b, _, c, d, *_ = map(int, np.frombuffer(bytes(data), np.int32))
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, b < 0, c < 0)
        return cls(False, d < 0, a < 0)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """A picture [h, w, ...] as it is shown."""
        turned = picture.swapaxes(0, 1) if self.transposed else picture
        return turned[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the turn; the turn back has the same."""
        return (width, height) if self.transposed else (height, width)


@dataclasses.dataclass(frozen=True)
class Track:
    """The pictures of a video file and their times.

    Attributes:
      path: path of the file.
      stream: index of the video stream in it.
      time_base: unit of the stream's times, in seconds.
      packets: times of the coded pictures, in the order of decoding.
      ranked: times of pictures in the order in which they are shown, where those of the decoder
        cannot be used: the file has none, or has them in the order of decoding.
      zero: when the first picture is shown, in units; of a piece it may lie between them.
      end: until when the last one is.
      stored: height and width of the first picture as it is stored.
      aspect: width of a stored pixel over its height.
      turn: how pictures are turned to be shown.
      fields: FFmpeg's number for the order of fields, if pictures are made of two.
      start: start of a piece of the file's pictures, the seconds at which it begins; None for all.
    """

    path: Path
    stream: int
    time_base: Fraction
    packets: Sequence[Packet]
    ranked: Sequence[int] | None
    zero: int | Fraction
    end: int | Fraction
    stored: tuple[int, int]
    aspect: Fraction
    turn: Turn
    fields: int
    start: Fraction | None = None

    @property
    def name(self) -> str:
        """Of the clip: that of the file without its suffix, and of a piece where it begins."""
        return self.path.stem + ("" if self.start is None else f"-{float(self.start):.3f}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture as it is shown, of square pixels."""
        height, width = self.stored
        return self.turn.size(height, max(round(width * self.aspect), 1))

    @property
    def duration(self) -> Fraction:
        """Seconds from the first picture to the end of the last one."""
        return (self.end - self.zero) * self.time_base

    def piece(self, start_sec: Fraction, end_sec: Fraction | None) -> "Track":
        """A part of it, on a time line of its own.

        Args:
          start_sec, end_sec: seconds from the first picture; to the end, if the latter is None.

        Raises:
          UserError: the piece is not within the video.
        """
        zero = self.zero + start_sec / self.time_base
        end = self.end if end_sec is None else self.zero + end_sec / self.time_base
        if zero >= self.end:
            raise UserError(
                f"{self.path}: lasts {float(self.duration):.2f} s, a piece from "
                f"{float(start_sec):g} s on is none"
            )
        end = min(end, self.end)
        within = [one for one in self.packets if one.pts is None or zero <= one.pts < end]
        return dataclasses.replace(self, packets=within, zero=zero, end=end, start=start_sec)

    def shown(self) -> Iterator[tuple[Any, Fraction]]:
        """The decoder's frames, and the seconds from the first one at which each is shown.

        Of a piece the first one may be shown from before its start on, at a time below 0.

        Raises:
          UserError: a frame cannot be decoded, or is shown before an earlier one.
        """
        if self.start is None:
            yield from self._decoded()
            return
        waiting = None
        for frame, time in self._from_before_the_start():
            if time >= self.duration:
                break
            if waiting is not None and time > 0:
                yield waiting
            waiting = frame, time
        if waiting is not None:
            yield waiting

    def _from_before_the_start(self) -> Iterator[tuple[Any, Fraction]]:
        """Frames from one that is shown at the start or before, of some files from the first."""
        if self.ranked is None:
            frames = self._decoded(self.zero * self.time_base - _EARLY_SEC)
            first = next(frames, None)
            if first is not None and first[1] <= 0:
                return itertools.chain([first], frames)
        return self._decoded()

    def _decoded(self, from_sec: Fraction | None = None) -> Iterator[tuple[Any, Fraction]]:
        """All frames, or those from a key frame at or before a time of the file on."""
        with opened(self.path) as container:
            stream = container.streams[self.stream]
            stream.thread_type = "AUTO"
            if from_sec is not None:
                seek(container, stream, from_sec)
            before = None
            for rank, frame in enumerate(decoded(container, stream)):
                ticks = frame.pts if self.ranked is None else self._by_rank(rank)
                if ticks is None:
                    raise UserError(f"{self.path}: picture {rank} has no time; replace the file")
                time = (ticks - self.zero) * self.time_base
                if before is not None and time < before:
                    raise UserError(
                        f"{self.path}: its times go back, from {float(before):.3f} s to "
                        f"{float(time):.3f} s; join its parts anew"
                    )
                yield frame, time
                before = time

    def _by_rank(self, rank: int) -> int:
        assert self.ranked is not None
        beyond = max(rank - len(self.ranked) + 1, 0)  # A packet may hold more than one picture.
        return self.ranked[rank - beyond] + beyond * max(self.ranked[-1] - self.ranked[-2], 1)


def read_track(path: str | Path) -> Track:
    """Reads the times of all pictures, without decoding more than the first.

    Args:
      path: path of a file, or of a piece of one (`container.located`).

    Raises:
      UserError: the file is missing, unreadable, cut short, or has no video, or no such piece.
    """
    place = located(path)
    track = _read_track(place.path)
    return track.piece(*place.piece) if place.piece else track


def _read_track(path: Path) -> Track:
    with opened(path) as container:
        stream = video_stream(container, path)
        packets, end_sec, torn = _scan(container, stream)
        promised_sec = _promised_sec(container)
        rate = exact(stream.average_rate) or exact(stream.guessed_rate) or _RATE
        by_decoding = container.format.name == "avi" and stream.codec_context.reorder_depth > 0
        index, time_base = stream.index, exact(stream.time_base)
        aspect = exact(stream.sample_aspect_ratio) or Fraction(1)
        # Of other containers it is a guess.
        said = "mov" in container.format.name and stream.duration
        said_end = (stream.start_time or 0) + stream.duration if said else None
    assert time_base is not None
    shown = [packet for packet in packets if not packet.hidden]
    if not shown:
        raise UserError(f"{path}: its video stream has no frames; replace the file")
    if len(shown) == 1:
        raise UserError(f"{path}: is a single picture, no video")
    if promised_sec is not None and end_sec + _MISSING_SEC < promised_sec:
        raise UserError(
            f"{path}: is cut short; it should last {promised_sec:.2f} s, and ends at "
            f"{end_sec:.2f} s; replace the file"
        )
    if torn:
        raise UserError(f"{path}: is cut short, in the middle of a picture; replace the file")
    step = max(round(1 / (rate * time_base)), 1)
    ranked = _ranked(packets, step, by_decoding)
    with opened(path) as container:
        stream = container.streams[index]
        frame = next(decoded(container, stream), None)
        if frame is None:
            raise UserError(f"{path}: none of its frames can be decoded; replace the file")
        zero = frame.pts if ranked is None else ranked[0]
        stored, turn = (frame.height, frame.width), Turn.of(frame)
        fields = stream.codec_context.field_order
    end = _end(shown, said_end, step) if ranked is None else 2 * ranked[-1] - ranked[-2]
    return Track(path, index, time_base, packets, ranked, zero, end, stored, aspect, turn, fields)


def _end(packets: Sequence[Packet], said_end: int | None, step: int) -> int:
    """Until when the last picture is shown, by the file's own word if it can be."""
    *_, before, last = sorted((packet.pts or 0, packet.duration) for packet in packets)
    if said_end is not None and said_end > last[0]:
        return said_end
    # Where pictures are decoded in another order, durations may be those of their decoding.
    return last[0] + min(last[1] or step, max(last[0] - before[0], step))


def start_sec(path: str | Path) -> Fraction | None:
    """When the first picture is shown, on the file's own time line; None without a video."""
    with opened(path) as container:
        stream = find_video(container)
        if stream is None or (unit := exact(stream.time_base)) is None:
            return None
        if container.format.name == "avi":
            # It cannot say that decoding begins before the sound, to reorder pictures.
            first = next(container.demux(stream))
            return unit * (first.dts or 0)
        frame = next(decoded(container, stream), None)
        return unit * (frame.pts or 0) if frame else None


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames in the order in which they are shown, from the first that can be decoded on."""
    av = require("av", EXTRA)
    started = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            if started:
                raise
            continue  # It needs others that are no longer there: the file begins at a cut.
        for frame in frames:
            started = True
            yield frame


def _scan(container: Any, stream: Any) -> tuple[list[Packet], float, bool]:
    """All packets of a stream; when the last of any stream ends, in seconds; and whether the
    stream's own last one is torn."""
    packets, end_sec, torn = [], 0.0, False
    for packet in container.demux():
        duration = packet.duration or 0
        if packet.pts is not None:
            end_sec = max(end_sec, (packet.pts + duration) * float(packet.time_base))
        if packet.stream is stream and packet.size:  # The last of a stream is an empty one.
            packets.append(
                Packet(packet.pts, packet.dts, duration, packet.is_keyframe, packet.is_discard)
            )
            torn = packet.is_corrupt
    return packets, end_sec, torn


def _promised_sec(container: Any) -> float | None:
    """When a file says that it ends; None if it does not, or cannot know."""
    # Of AVI it is a guess, by the sizes of sounds.
    if container.format.name == "avi" or container.duration is None:
        return None
    # FFmpeg has it counted from the start of the file in mp4 and mov, in others mostly from 0.
    from_start = container.start_time or 0 if "mov" in container.format.name else 0
    return (from_start + container.duration) / _MICROSECONDS


def _ranked(packets: Sequence[Packet], step: int, by_decoding: bool) -> list[int] | None:
    """See `Track.ranked`."""
    shown = [packet.pts for packet in packets if packet.pts is not None]
    by_decoding = by_decoding and all(a < b for a, b in itertools.pairwise(shown))
    if len(shown) == len(packets) and not by_decoding:
        return None
    decoded = [packet.dts for packet in packets if packet.dts is not None]
    if len(decoded) == len(packets):
        return sorted(decoded)
    durations = [packet.duration or step for packet in packets[:-1]]
    return list(itertools.accumulate(durations, initial=0))
