"""Pieces of long videos: the pictures and the sound that a player shows from a second on."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media import clips
from vssflow_jax import media
from vssflow_jax.media import View
from vssflow_jax.utils.errors import UserError

RATE, SECONDS = 25, 12
CLICK_SEC = 7.4
SOUND_RATE = 16_000
KINDS = {  # container, codecs of picture and sound, options of the former
    ".mp4": ("mp4", "libx264", "aac", {"bf": "2", "g": "75", "preset": "superfast"}),
    ".mkv": ("matroska", "libx264", "aac", {"bf": "2", "g": "75", "preset": "superfast"}),
    ".ts": ("mpegts", "libx264", "aac", {"bf": "2", "g": "75", "preset": "superfast"}),
    ".flv": ("flv", "libx264", "aac", {"bf": "2", "g": "75", "preset": "superfast"}),
    ".mov": ("mov", "mpeg4", "pcm_s16le", {"g": "75"}),
    ".avi": ("avi", "mpeg4", "pcm_s16le", {"g": "75"}),
    ".mpg": ("mpeg", "mpeg2video", "mp2", {"g": "75"}),
    ".webm": ("webm", "libvpx", "libopus", {"g": "75", "deadline": "realtime"}),
}
PIECES = [("0", "3"), ("6.52", "9"), ("5.04", "12"), ("7", None), ("2.48", "2.6")]


@pytest.fixture(scope="module", params=KINDS)
def video(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose grey is their number, and a click; both begin late."""
    path = tmp_path_factory.mktemp("video") / f"video{request.param}"
    container_name, codec, audio_codec, options = KINDS[request.param]
    late = Fraction(0) if request.param == ".avi" else Fraction(36, 25)
    with av.open(str(path), "w", format=container_name) as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 96, 64, "yuv420p", 3_000_000
        unit = stream.codec_context.time_base = Fraction(1, RATE)
        audio = container.add_stream(audio_codec, rate=clips.SAMPLING_RATE, layout="mono")
        packets = []
        for number in range(RATE * SECONDS):
            grey = np.full((64, 96, 3), 20 + number % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = number + round(late / unit), unit
            packets += stream.encode(frame)
        packets += stream.encode(None)
        packets += clips.encoded_sound(audio, clips.click(SECONDS, CLICK_SEC), late)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def greys(path: str | Path, count: int) -> np.ndarray:
    view = View(RATE, (64, 96))
    found = [block.copy() for _, block in media.blocks(media.read_track(path), {view: count})]
    return np.concatenate(found)[..., 0].mean(axis=(1, 2))


def named(path: Path, start: str, end: str | None) -> str:
    return f"{path}#t={start}" + (f",{end}" if end else "")


@pytest.mark.parametrize(("start", "end"), PIECES)
def test_pictures_and_sound_of_a_piece(video: Path, start: str, end: str | None) -> None:
    first, last = Fraction(start), Fraction(end or SECONDS)
    track = media.read_track(named(video, start, end))
    assert abs(track.duration - (last - first)) < Fraction(1, 500)
    # Grey by grey those of the whole, black after the end.
    count = round((last - first) * RATE)
    wanted = greys(video, RATE * SECONDS)[round(first * RATE) :][:count]
    found = greys(named(video, start, end), count + 5)
    # MPEG's program streams have times that are a little uneven.
    atol = 1.2 if video.suffix == ".mpg" else 0.6
    np.testing.assert_allclose(found[:count], wanted, atol=atol)
    assert not found[count:].any()

    waveform = media.read_audio(named(video, start, end), SOUND_RATE)
    assert abs(len(waveform) - (last - first) * SOUND_RATE) < 0.05 * SOUND_RATE
    if first < CLICK_SEC < last:
        heard = clips.click_sec(waveform, SOUND_RATE)
        assert abs(heard - (CLICK_SEC - float(first))) < 0.002
    else:
        assert np.abs(waveform).max() < 0.01


def test_a_piece_gets_another_sound(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    sound = clips.click(2.48, 1.0)
    media.replace_audio(named(video, "6.52", "9"), sound, clips.SAMPLING_RATE, out)
    written = media.read_track(out)
    assert abs(written.duration - Fraction("2.48")) < Fraction(1, RATE)
    found = greys(out, 62)
    np.testing.assert_allclose(found, greys(video, RATE * SECONDS)[163:225], atol=4)
    assert abs(clips.click_sec(media.read_audio(out, SOUND_RATE), SOUND_RATE) - 1.0) < 0.002


@pytest.mark.parametrize(
    ("piece", "says"), [("#t=30", "a piece from 30 s on is none"), ("#t=3,2", "ends before it")]
)
def test_no_such_piece(video: Path, piece: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        media.read_track(f"{video}{piece}")


def test_a_file_of_such_a_name_is_a_file(video: Path, tmp_path: Path) -> None:
    odd = tmp_path / "video.mp4#t=1,2"
    odd.write_bytes(video.read_bytes())
    assert media.located(odd) == (odd, None)
    assert media.read_track(odd).duration > 10


def test_a_piece_has_a_name_of_its_own(video: Path) -> None:
    assert media.read_track(video).name == "video"
    assert media.read_track(named(video, "6.5", "9")).name == "video-6.500"
