"""Short video files of many kinds. At one moment something flashes in the picture and clicks."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

SAMPLING_RATE = 48_000
HEIGHT, WIDTH = 64, 96
NUM_FRAMES = 24
FLASH = 10
"""The frame with which it flashes, for three frames."""
DARK, STEP = 40, 5
"""Grey of the lower left quarter at the first frame, and how much it brightens with each."""
CLICK_SEC = 0.01

RATES: dict[str, Fraction | None] = {
    "10": Fraction(10),
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "uneven": None,
}
UNEVEN_MS = (20, 50, 100, 40, 33)
STARTS_SEC = {  # of picture and sound
    "none": (Fraction(0), Fraction(0)),
    "both late": (Fraction(36, 25), Fraction(36, 25)),
    "picture late": (Fraction(1, 2), Fraction(0)),
    "sound late": (Fraction(0), Fraction(3, 10)),
}
TURNS = {"0": (0, False), "90": (90, False), "180": (180, False), "270": (270, False)}
TURNS |= {"mirrored": (0, True)}
"""Degrees against the clock by which a player turns the picture, and whether it mirrors it then."""

ENCODERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "yuv420p", {"bf": "0", "preset": "ultrafast"}),
    "h264 with B": ("libx264", "yuv420p", {"bf": "2", "preset": "superfast", "b-adapt": "0"}),
    "hevc": ("libx265", "yuv420p", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "av1": ("libsvtav1", "yuv420p", {"preset": "8", "crf": "5"}),
    "vp8": ("libvpx", "yuv420p", {"deadline": "realtime"}),
    "vp9": ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "mpeg4": ("mpeg4", "yuv420p", {"bf": "1", "qscale": "2"}),
    "mpeg2": ("mpeg2video", "yuv420p", {"bf": "2"}),
    "mjpeg": ("mjpeg", "yuvj420p", {}),
    "prores": ("prores_ks", "yuv422p10le", {}),
    "ffv1": ("ffv1", "yuv420p", {}),
}
BIT_RATE = 3_000_000


class Container(NamedTuple):
    """What a container can hold.

    Attributes:
      suffix: of its files.
      codecs: of pictures.
      sound: codec of the sound.
      turns: whether it says how pictures are turned.
      times: whether pictures can begin late, or come unevenly.
    """

    suffix: str
    codecs: Sequence[str]
    sound: str
    turns: bool = False
    times: bool = True


CONTAINERS = {
    "mp4": Container(
        ".mp4",
        ["h264", "h264 with B", "hevc", "av1", "vp9", "mpeg4", "mpeg2", "mjpeg"],
        "aac",
        turns=True,
    ),
    "mov": Container(
        ".mov", ["h264", "h264 with B", "hevc", "mpeg4", "mjpeg", "prores"], "pcm_s16le", turns=True
    ),
    "matroska": Container(".mkv", list(ENCODERS), "aac", turns=True),
    "webm": Container(".webm", ["vp8", "vp9", "av1"], "libopus"),
    "mpegts": Container(".ts", ["h264 with B", "hevc", "mpeg4", "mpeg2"], "aac"),
    "avi": Container(".avi", ["h264", "mpeg4", "mjpeg", "ffv1"], "pcm_s16le", times=False),
    "flv": Container(".flv", ["h264", "h264 with B"], "aac"),
}


class Case(NamedTuple):
    """A file to make, and the container to write its pictures to with another sound."""

    container: str
    codec: str
    start: str = "none"
    turn: str = "0"
    rate: str = "25"
    out: str = ".mp4"

    @property
    def possible(self) -> bool:
        container = CONTAINERS[self.container]
        return (
            self.codec in container.codecs
            and (container.turns or self.turn == "0")
            and (container.times or (self.start == "none" and self.rate != "uneven"))
            and (self.codec != "mpeg2" or self.rate not in ("10", "uneven"))
        )

    def __str__(self) -> str:
        return "-".join(self).replace(" ", "_")


def covering(axes: Sequence[Sequence[str]]) -> list[Case]:
    """Possible cases in which every possible pair of values of two axes is met."""
    every = [case for case in map(Case._make, itertools.product(*axes)) if case.possible]
    missing = set().union(*map(_pairs, every))
    chosen = []
    # A large step, so that candidates are of all kinds.
    for start in itertools.count():
        if not missing:
            return chosen
        candidates = every[start % 7 :: 7]
        best = max(candidates, key=lambda case: len(_pairs(case) & missing))
        if not _pairs(best) & missing:
            best = max(every, key=lambda case: len(_pairs(case) & missing))
        missing -= _pairs(best)
        chosen.append(best)


def _pairs(case: Case) -> set[tuple[tuple[int, str], ...]]:
    return set(itertools.combinations(enumerate(case), 2))


# ------------------------------------------------------------------------------------- content
def times_sec(rate: str, num_frames: int = NUM_FRAMES) -> list[Fraction]:
    """When each frame is shown, from the first on, and when the last one ends."""
    if (fixed := RATES[rate]) is not None:
        return [index / fixed for index in range(num_frames + 1)]
    steps = itertools.islice(itertools.cycle(UNEVEN_MS), num_frames)
    return [Fraction(ms, 1000) for ms in itertools.accumulate(steps, initial=0)]


def picture(index: int) -> np.ndarray:
    """A frame as it is shown, uint8 [h, w, 3]: its quarters are unlike each other."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[: HEIGHT // 2, : WIDTH // 2] = (180, 60, 60)
    frame[HEIGHT // 2 :, : WIDTH // 2] = DARK + STEP * index
    if FLASH <= index < FLASH + 3:
        frame[HEIGHT // 2 :, WIDTH // 2 :] = 235
    return frame


def click(duration_sec: float, at_sec: float) -> np.ndarray:
    """Silence but for one click, float32 [n]."""
    samples = np.zeros(round(duration_sec * SAMPLING_RATE), np.float32)
    num = round(CLICK_SEC * SAMPLING_RATE)
    sound = np.hanning(num) * np.sin(2 * np.pi * 1500 * np.arange(num) / SAMPLING_RATE)
    first = round(at_sec * SAMPLING_RATE)
    samples[first : first + num] = 0.8 * sound
    return samples


def click_sec(waveform: np.ndarray, sampling_rate: int) -> float:
    """When it clicks."""
    num = round(CLICK_SEC * sampling_rate)
    energy = np.convolve(waveform.astype(np.float64) ** 2, np.hanning(num), mode="valid")
    return int(np.argmax(energy)) / sampling_rate


def number(frame: np.ndarray) -> float:
    """Which frame a picture is, by its lower left quarter."""
    height, width = frame.shape[:2]
    # Away from the edges, where codecs smear.
    quarter = frame[height * 5 // 8 : height * 7 // 8, width // 8 : width * 3 // 8]
    return (quarter.mean() - DARK) / STEP


def flashes(frame: np.ndarray) -> bool:
    height, width = frame.shape[:2]
    return frame[height * 5 // 8 : height * 7 // 8, width * 5 // 8 : width * 7 // 8].mean() > 120


# --------------------------------------------------------------------------------------- files
@contextlib.contextmanager
def usual_priority() -> Iterator[None]:
    """Leaves the thread as it was: SVT-AV1 gives its caller, if root, real-time priority for good.

    Whatever the thread starts later would inherit it, and starve the machine where it waits by
    spinning, as OpenBLAS does.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


@usual_priority()
def make(path: Path, case: Case) -> Path:
    """Writes the file of a case."""
    kind = CONTAINERS[case.container]
    encoder, pixels, options = ENCODERS[case.codec]
    picture_sec, sound_sec = STARTS_SEC[case.start]
    times = times_sec(case.rate)
    rate = RATES[case.rate]
    unit = Fraction(1, 1000) if rate is None else 1 / rate
    picture_sec = round(picture_sec / unit) * unit
    degrees, mirrored = TURNS[case.turn]
    # Raw pictures are turned the other way round.
    stored = [np.rot90(unmirrored(picture(k), mirrored), -degrees // 90) for k in range(NUM_FRAMES)]
    with av.open(str(path), "w", format=case.container) as container:
        video = container.add_stream(encoder, rate=rate or 25, options=options)
        video.height, video.width = stored[0].shape[:2]
        video.pix_fmt = pixels
        if "crf" not in options:
            video.bit_rate = BIT_RATE
        video.codec_context.time_base = unit
        if case.turn != "0":
            video.set_display_rotation(degrees, hflip=mirrored)
        audio = container.add_stream(kind.sound, rate=SAMPLING_RATE, layout="mono")
        packets: list[Any] = []
        for pixels_rgb, time in zip(stored, times, strict=False):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_rgb), format="rgb24")
            frame.pts, frame.time_base = round((picture_sec + time) / unit), unit
            packets += video.encode(frame)
        packets += video.encode(None)
        at_sec = float(picture_sec + times[FLASH] - sound_sec)
        length_sec = float(picture_sec + times[-1] - sound_sec)
        packets += encoded_sound(audio, click(length_sec, at_sec), sound_sec)
        for packet in sorted(packets, key=lambda packet: packet.dts * float(packet.time_base)):
            container.mux(packet)
    return path


def unmirrored(frame: np.ndarray, mirrored: bool) -> np.ndarray:
    return frame[:, ::-1] if mirrored else frame


def encoded_sound(stream: Any, waveform: np.ndarray, start_sec: Fraction) -> list[Any]:
    unit = Fraction(1, SAMPLING_RATE)
    frame = av.AudioFrame.from_ndarray(waveform[None], format="flt", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = SAMPLING_RATE, unit, 0
    resampler = av.AudioResampler(
        stream.format, stream.layout, SAMPLING_RATE, stream.codec_context.frame_size or None
    )
    packets = []
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        piece.pts += round(start_sec / unit)
        packets += stream.encode(piece)
    return packets + stream.encode(None)


class Shown(NamedTuple):
    """A frame as a player has it: turned, and its time in the file."""

    frame: np.ndarray
    time_sec: float
    raw: bytes


def shown(path: Path) -> list[Shown]:
    """What a player shows, by PyAV alone."""
    return list(_shown(path))


def _shown(path: Path) -> Iterator[Shown]:
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            raw = frame.to_ndarray(format="rgb24")
            yield Shown(turned(frame, raw), frame.pts * float(frame.time_base), raw.tobytes())


def turned(frame: Any, picture: np.ndarray) -> np.ndarray:
    """By the display matrix, point by point: (x, y) goes to (ax + cy, bx + dy)."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return picture
    a, b, _, c, d, *_ = np.sign(np.frombuffer(bytes(matrix), np.int32).astype(int))
    ys, xs = np.indices(picture.shape[:2])
    to_x, to_y = a * xs + c * ys, b * xs + d * ys
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    out = np.zeros((to_y.max() + 1, to_x.max() + 1, 3), picture.dtype)
    out[to_y, to_x] = picture
    return out


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def heard(path: Path) -> tuple[np.ndarray, int, float]:
    """Samples of the first sound, their rate, and when they begin in the file, by PyAV alone."""
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.audio[0]))
        samples = [frame.to_ndarray().astype(np.float32).reshape(-1) for frame in frames]
        first = frames[0]
        return np.concatenate(samples), first.sample_rate, first.pts * float(first.time_base)
