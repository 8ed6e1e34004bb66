"""Pictures in blocks: the nearest in time, as they always were, and never many at once."""

import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media import clips
from tests.media.clips import Case
from vssflow_jax import media
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.footage import Encoders
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.media import View

FPS = 25
MOUTH = (50, 50, 200, 150)


def all_pictures(path: Path, view: View, count: int) -> np.ndarray:
    return np.concatenate(
        [block for _, block in media.blocks(media.read_track(path), {view: count})]
    )


def test_of_two_as_near_the_one_of_even_number_is_taken(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", Case("mp4", "h264 with B", "both late"))
    seen = [round(clips.number(picture)) for picture in all_pictures(path, View(10), 10)]
    # Python rounds a half to the even number, and so do NumPy and the reference.
    assert seen == [round(k * FPS / 10) for k in range(10)] == [0, 2, 5, 8, 10, 12, 15, 18, 20, 22]


def test_after_the_end_it_is_black(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", Case("mp4", "h264"))
    pictures = all_pictures(path, View(FPS, (16, 24)), clips.NUM_FRAMES + 300)
    assert pictures[: clips.NUM_FRAMES].any(axis=(1, 2, 3)).all()
    assert not pictures[clips.NUM_FRAMES :].any()
    assert len(pictures) == clips.NUM_FRAMES + 300


@pytest.mark.parametrize("view", [View(25), View(25, (128, 192)), View(24), View(60, (32, 40))])
def test_of_an_ordinary_clip_they_are_what_they_were(demo_data: Path, view: View) -> None:
    paths = sorted(demo_data.rglob("*.mp4"))[:2]
    assert len(paths) == 2
    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.start_time == 0
            assert stream.average_rate == FPS
            frames = list(container.decode(stream))
        num = round(len(frames) / FPS * view.rate)
        size = view.size or (frames[0].height, frames[0].width)
        height, width = size
        expected = [
            frames[min(round(Fraction(k * FPS) / Fraction(view.rate)), len(frames) - 1)].to_ndarray(
                format="rgb24", height=height, width=width, interpolation=view.filter
            )
            for k in range(num)
        ]
        np.testing.assert_array_equal(all_pictures(path, view, num), expected)


def peak_bytes(path: Path, encoders: Encoders) -> int:
    """Most that is held by NumPy at a time while a video is watched."""
    track = media.read_track(path)
    spec = ClipSpec(duration_sec=float(track.duration))
    encoders.watch(track, spec, MOUTH)  # Imports and caches.
    tracemalloc.start()
    encoders.watch(track, spec, MOUTH)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_what_is_held_does_not_grow_with_the_video(tmp_path: Path) -> None:
    height, width, peaks = 240, 320, {}
    for seconds in (12, 36):
        path = tmp_path / f"{seconds}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            for index in range(seconds * FPS):
                pixels = np.full((height, width, 3), index % 250, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        peaks[seconds] = peak_bytes(path, WEIGHTS_FREE)
    of_a_picture = 3 * height * width
    assert peaks[36] - peaks[12] < 4 * of_a_picture
    assert peaks[36] < 36 * FPS * of_a_picture
