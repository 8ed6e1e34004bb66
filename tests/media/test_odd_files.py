"""Files that are not what one expects, as cameras, programs and disks make them."""

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.media import clips
from tests.media.clips import Case
from vssflow_jax import media
from vssflow_jax.utils.errors import UserError

RATE = 16_000
FPS = 25
CLICK_SEC = 0.01


def written(path: Path, out: Path) -> media.Plan:
    """Puts the sound of a file back to its pictures."""
    planned = media.plan(media.read_track(path), out.suffix)
    planned.write(out, media.read_audio(path, RATE), RATE)
    return planned


def check_event(out: Path, first_number: int = 0) -> None:
    """See that what flashes clicks, and that pictures are in order and begin with the sound."""
    frames = clips.shown(out)
    waveform, rate, start_sec = clips.heard(out)
    assert frames[0].time_sec == pytest.approx(start_sec, abs=0.001)
    numbers = [round(clips.number(shown.frame)) for shown in frames]
    assert numbers == list(range(first_number, first_number + len(numbers)))
    flash_sec = next(shown.time_sec for shown in frames if clips.flashes(shown.frame))
    heard_sec = start_sec + clips.click_sec(waveform, rate)
    assert heard_sec == pytest.approx(flash_sec, abs=CLICK_SEC)
    assert flash_sec - frames[0].time_sec == pytest.approx(
        (clips.FLASH - first_number) / FPS, abs=0.002
    )


def remuxed(source: Path, path: Path, container: str, change: Callable[[Any], bool]) -> Path:
    """Copies the packets that `change` lets through, after it has changed them."""
    with av.open(str(source)) as old, av.open(str(path), "w", format=container) as new:
        streams = {
            stream.index: new.add_stream_from_template(stream, opaque=True)
            for stream in old.streams
        }
        for packet in old.demux():
            if packet.dts is not None and change(packet):
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return path


def clip(folder: Path, container: str, codec: str = "h264 with B", **others: str) -> Path:
    suffix = clips.CONTAINERS[container].suffix
    return clips.make(folder / f"clip{suffix}", Case(container, codec, **others))


# ------------------------------------------------------------------------------- where it begins
def earlier(packet: Any) -> bool:
    """Pictures and sound 0.2 s earlier, so that a player begins amid a group of pictures."""
    shift = round(
        Fraction(1, 5) / Fraction(packet.time_base.numerator, packet.time_base.denominator)
    )
    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
    return True


@pytest.mark.parametrize("suffix", media.SUFFIXES)
def test_what_an_edit_list_hides_is_neither_seen_nor_shown(tmp_path: Path, suffix: str) -> None:
    path = remuxed(clip(tmp_path, "mp4"), tmp_path / "cut.mp4", "mp4", earlier)
    assert len(clips.packets(path)) == clips.NUM_FRAMES
    track = media.read_track(path)
    assert float(track.duration) == pytest.approx((clips.NUM_FRAMES - 5) / FPS, abs=1 / FPS)
    planned = written(path, tmp_path / f"out{suffix}")
    # Matroska has no edit lists.
    assert bool(planned.obstacle) == (suffix == ".mkv")
    check_event(tmp_path / f"out{suffix}", first_number=5)


def with_edits(path: Path, out: Path, edits: Sequence[tuple[int, int]]) -> Path:
    """An mp4 with another edit list of its pictures: first frame and number of frames of each."""
    content = path.read_bytes()
    moov = content.rindex(b"moov") - 4  # It is the last of the file, so that no place moves.
    assert content[:moov].find(b"mdat") > 0
    with av.open(str(path)) as container:
        per_frame = round(1 / (FPS * container.streams.video[0].time_base))
        first = -container.streams.video[0].index_entries[0].timestamp
    boxes = list(children(content[moov + 8 :]))
    (per_sec,) = struct.unpack(">I", dict(boxes)[b"mvhd"][12:16])
    rows = [
        struct.pack(">IiHH", count * per_sec // FPS, start * per_frame + first, 1, 0)
        for start, count in edits
    ]
    elst = struct.pack(">II", 0, len(rows)) + b"".join(rows)
    new = box(b"edts", box(b"elst", elst))
    position = next(i for i, (name, _) in enumerate(boxes) if name == b"trak")
    parts = [(name, body) for name, body in children(boxes[position][1]) if name != b"edts"]
    boxes[position] = (b"trak", box(*parts[0]) + new + b"".join(box(*part) for part in parts[1:]))
    out.write_bytes(content[:moov] + box(b"moov", b"".join(box(*part) for part in boxes)))
    return out


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


def children(body: bytes) -> Sequence[tuple[bytes, bytes]]:
    found = []
    while body:
        size, name = struct.unpack(">I4s", body[:8])
        found.append((name, body[8:size]))
        body = body[size:]
    return found


def test_what_an_edit_list_leaves_out_between_others_is_not_copied(
    tmp_path: Path,
) -> None:
    path = with_edits(clip(tmp_path, "mp4"), tmp_path / "edits.mp4", [(0, 4), (8, 16)])
    before = [round(clips.number(shown.frame)) for shown in clips.shown(path)]
    assert before == [*range(4), *range(8, 24)]
    assert float(media.read_track(path).duration) == pytest.approx(20 / FPS, abs=1 / FPS)
    planned = written(path, tmp_path / "out.mp4")
    assert "leaves out pictures" in planned.obstacle
    after = clips.shown(tmp_path / "out.mp4")
    assert [round(clips.number(shown.frame)) for shown in after] == before
    np.testing.assert_allclose([shown.time_sec for shown in after], np.arange(20) / FPS, atol=0.002)


def test_a_broadcast_that_begins_amid_a_group_of_pictures(tmp_path: Path) -> None:
    # Without what comes before it, what precedes the next key frame cannot be decoded.
    keys = 0

    def after_the_first_key(packet: Any) -> bool:
        nonlocal keys
        keys += packet.stream.type == "video" and packet.is_keyframe
        return packet.stream.type == "audio" or keys > 1 or not packet.is_keyframe

    whole = clip(tmp_path, "mpegts", "mpeg2")
    path = remuxed(whole, tmp_path / "cut.ts", "mpegts", after_the_first_key)
    first = round(clips.number(clips.shown(path)[0].frame)) if clips.shown(path) else 0
    assert first > 0
    assert len(clips.packets(path)) > clips.NUM_FRAMES - first
    assert not written(path, tmp_path / "out.mp4").obstacle
    frames = clips.shown(tmp_path / "out.mp4")
    assert [round(clips.number(shown.frame)) for shown in frames] == list(
        range(first, clips.NUM_FRAMES)
    )
    waveform, rate, start_sec = clips.heard(tmp_path / "out.mp4")
    assert frames[0].time_sec == pytest.approx(start_sec, abs=0.001)
    assert not waveform.size or len(waveform) / rate == pytest.approx(
        (clips.NUM_FRAMES - first) / FPS, abs=1 / FPS
    )


# ----------------------------------------------------------------------------- without times
def test_avi_has_pictures_in_the_order_of_decoding(tmp_path: Path) -> None:
    # FFmpeg gives such pictures times of the wrong order.
    path = clip(tmp_path, "avi")
    assert "does not say when" in written(path, tmp_path / "out.mp4").obstacle
    check_event(tmp_path / "out.mp4")


def test_coded_pictures_without_a_container(tmp_path: Path) -> None:
    with_sound = clip(tmp_path, "mpegts")
    path = tmp_path / "a.h264"
    with av.open(str(with_sound)) as old, av.open(str(path), "w", format="h264") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    track = media.read_track(path)
    assert float(track.duration) == pytest.approx(clips.NUM_FRAMES / FPS, abs=0.001)
    planned = media.plan(track, ".mp4")
    planned.write(tmp_path / "out.mp4", clips.click(1, 0.4)[::3], RATE)
    check_event(tmp_path / "out.mp4")


# --------------------------------------------------------------------------- how it is shown
def of_colours(path: Path, codec: str = "libx264", pixels: str = "yuv420p", **tags: Any) -> Path:
    """A few pictures with what a header says of them."""
    size = tags.pop("size", (clips.WIDTH, clips.HEIGHT))
    options = tags.pop("options", {})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(
                np.full((size[1], size[0], 3), 20 * index, np.uint8), format="rgb24"
            ).reformat(format=pixels)
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            for name in ("colorspace", "color_range"):
                if name in tags:
                    setattr(frame, name, tags[name])
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def header(path: Path) -> dict[str, Any]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        names = ("color_range", "color_primaries", "color_trc", "colorspace", "pix_fmt", "width")
        known = {name: getattr(stream.codec_context, name) for name in names}
        return known | {"aspect": stream.sample_aspect_ratio, "streams": len(container.streams)}


@pytest.mark.parametrize("suffix", media.SUFFIXES)
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_colours_depth_and_pixels_stay_what_they_are(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    path = of_colours(
        tmp_path / "hdr.mp4",
        codec,
        "yuv420p10le",
        **{"color_range": 1, "color_primaries": 9, "color_trc": 16, "colorspace": 9},
        sample_aspect_ratio=Fraction(4, 3),
        options={"x265-params": "log-level=none"} if codec == "libx265" else {},
    )
    planned = media.plan(media.read_track(path), suffix)
    planned.write(tmp_path / f"out{suffix}", np.zeros(RATE), RATE)
    assert not planned.obstacle
    expected = header(path)
    assert (expected["color_trc"], expected["aspect"]) == (16, Fraction(4, 3))
    assert header(tmp_path / f"out{suffix}") == expected | {"streams": 2}


def test_hevc_of_any_source_has_the_name_that_apple_knows(tmp_path: Path) -> None:
    written(clip(tmp_path, "matroska", "hevc"), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_tag == "hvc1"


def test_pictures_are_as_wide_as_they_are_shown(tmp_path: Path) -> None:
    path = of_colours(tmp_path / "wide.mp4", sample_aspect_ratio=Fraction(4, 3))
    track = media.read_track(path)
    assert track.size == (clips.HEIGHT, clips.WIDTH * 4 // 3)
    ((_, block),) = media.blocks(track, {media.View(FPS): 8})
    assert block.shape == (8, *track.size, 3)


def test_an_odd_gif_is_encoded_with_its_last_row_and_column_twice(tmp_path: Path) -> None:
    path = of_colours(tmp_path / "odd.gif", "gif", "gray", size=(97, 63))
    planned = media.plan(media.read_track(path), ".mp4")
    planned.write(tmp_path / "out.mp4", np.zeros(RATE), RATE)
    assert "gif" in planned.obstacle
    before, after = clips.shown(path), clips.shown(tmp_path / "out.mp4")
    assert len(after) == len(before) == 8
    for old, new in zip(before, after, strict=True):
        assert new.frame.shape == (64, 98, 3)
        assert np.abs(new.frame[:63, :97].astype(int) - old.frame).mean() < 4
        assert np.abs(new.frame[63].astype(int) - new.frame[62]).mean() < 4
        assert new.time_sec == pytest.approx(old.time_sec, abs=0.001)


def test_interlaced_pictures_that_are_encoded_stay_interlaced(tmp_path: Path) -> None:
    path = of_colours(
        tmp_path / "fields.mov",
        "prores_ks",
        "yuv422p10le",
        flags=av.codec.context.Flags.interlaced_dct.value,
        field_order=2,
    )
    planned = media.plan(media.read_track(path), ".mp4")
    planned.write(tmp_path / "out.mp4", np.zeros(RATE), RATE)
    assert planned.obstacle
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert all(frame.interlaced_frame for frame in container.decode(video=0))


# ------------------------------------------------------------------------ more than one stream
def with_streams(path: Path, order: Sequence[str], default: str = "") -> Path:
    """A file with streams: `cover`, a still; `clip` and `other`, of another length; `data`."""
    still = av.stream.Disposition.attached_pic
    with av.open(str(path), "w") as container:
        streams = {}
        for name in order:
            codec = "mjpeg" if name == "cover" else "libx264"
            streams[name] = stream = container.add_stream(codec, rate=FPS)
            stream.width, stream.height = clips.WIDTH, clips.HEIGHT
            stream.pix_fmt = "yuvj420p" if name == "cover" else "yuv420p"
            if default:
                stream.disposition = (
                    av.stream.Disposition.default if name == default else av.stream.Disposition(0)
                )
            if name == "cover":
                stream.disposition = still
        for name, stream in streams.items():
            for index in range({"cover": 1, "clip": 24, "other": 10}[name]):
                frame = av.VideoFrame.from_ndarray(clips.picture(index), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, FPS)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("order", "default", "num_frames"),
    [
        (["cover", "clip"], "", 24),
        (["clip", "cover"], "", 24),
        (["clip", "other"], "", 24),
        (["clip", "other"], "other", 10),
    ],
)
def test_the_stream_that_a_player_shows_is_taken(
    tmp_path: Path, order: list[str], default: str, num_frames: int
) -> None:
    path = with_streams(tmp_path / ("two.mp4" if "cover" in order else "two.mkv"), order, default)
    track = media.read_track(path)
    assert len(track.packets) == num_frames
    planned = media.plan(track, ".mp4")
    planned.write(tmp_path / "out.mp4", np.zeros(RATE), RATE)
    assert header(tmp_path / "out.mp4")["streams"] == 2
    assert len(clips.shown(tmp_path / "out.mp4")) == num_frames


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    path = with_streams(tmp_path / "song.mp4", ["cover"])
    with pytest.raises(UserError, match=r"song.mp4: has no video stream, only a cover picture"):
        media.read_track(path)


# -------------------------------------------------------------------------------- its sound
def test_a_gap_in_the_sound_is_silence(tmp_path: Path) -> None:
    def with_a_gap(packet: Any) -> bool:
        time_sec = packet.pts * float(packet.time_base)
        return packet.stream.type == "video" or not 0.1 < time_sec < 0.3

    path = remuxed(clip(tmp_path, "mp4"), tmp_path / "gap.mkv", "matroska", with_a_gap)
    assert len(media.read_audio(path, RATE)) == pytest.approx(RATE * 24 / FPS, abs=RATE * 0.04)
    written(path, tmp_path / "out.mp4")
    check_event(tmp_path / "out.mp4")


def test_a_sound_that_goes_on_after_the_pictures_is_cut_with_them(tmp_path: Path) -> None:
    path = remuxed(
        clip(tmp_path, "mp4"),
        tmp_path / "long.mp4",
        "mp4",
        lambda packet: packet.stream.type == "audio" or packet.dts * packet.time_base < 0.6,
    )
    written(path, tmp_path / "out.mp4")
    waveform, rate, _ = clips.heard(tmp_path / "out.mp4")
    end_sec = media.read_track(path).duration
    assert len(waveform) / rate == pytest.approx(float(end_sec), abs=1 / FPS)
    assert end_sec < 0.8


# -------------------------------------------------------------------------------- what is none
@pytest.mark.parametrize("container", ["matroska", "flv", "fragments", "avi", "index first"])
def test_a_file_that_is_cut_short_is_named(tmp_path: Path, container: str) -> None:
    options = {
        "fragments": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
        "index first": {"movflags": "faststart"},
    }.get(container, {})
    kind = "mp4" if options else container
    path = tmp_path / "torn"
    with av.open(str(path), "w", format=kind, options=options) as new:
        codec = "mjpeg" if kind == "avi" else "libx264"
        stream = new.add_stream(codec, rate=FPS, options={} if kind == "avi" else {"g": "10"})
        stream.width, stream.height = clips.WIDTH, clips.HEIGHT
        stream.pix_fmt = "yuvj420p" if kind == "avi" else "yuv420p"
        noise = np.random.default_rng(0)
        for index in range(75):
            pixels = noise.integers(0, 256, (clips.HEIGHT, clips.WIDTH, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            new.mux(stream.encode(frame))
        new.mux(stream.encode(None))
    assert len(media.read_track(path).packets) == 75
    with av.open(str(path)) as whole:
        packet = [packet for packet in whole.demux() if packet.size][45]
        middle = packet.pos + packet.size // 2  # not between two fragments, which is a whole file
    path.write_bytes(path.read_bytes()[:middle])
    with pytest.raises(UserError, match=r"torn: is cut short.*; replace the file"):
        media.read_track(path)


def test_a_single_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "one.mp4"
    media.write_video(path, clips.picture(0)[None], FPS, np.zeros(RATE), RATE)
    with pytest.raises(UserError, match=r"one.mp4: is a single picture, no video"):
        media.read_track(path)


def test_times_that_go_back_are_named(tmp_path: Path) -> None:
    part = clip(tmp_path, "mpegts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(part + part)
    track = media.read_track(tmp_path / "joined.ts")
    with pytest.raises(UserError, match=r"joined.ts: its times go back, .* join its parts anew"):
        list(track.shown())
