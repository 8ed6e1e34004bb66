"""Any video in, the same picture out, in sync: containers, codecs, starts, turns and rates.

Every two of them that can meet do.
"""

import functools
import os
from pathlib import Path

import numpy as np
import pytest

from data.videos import Videos
from tests.media import clips
from tests.media.clips import Case
from vssflow_jax import media
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.weights_free import WEIGHTS_FREE

AXES = (
    list(clips.CONTAINERS),
    list(clips.ENCODERS),
    list(clips.STARTS_SEC),
    list(clips.TURNS),
    list(clips.RATES),
    list(media.SUFFIXES),
)
CASES = clips.covering(AXES)
COPIED = {
    ".mp4": {"h264", "h264 with B", "hevc", "av1", "vp9", "mpeg4", "mpeg2", "mjpeg", "ffv1"},
    ".mov": {"h264", "h264 with B", "hevc", "mpeg4", "mpeg2", "mjpeg", "prores"},
    ".mkv": set(clips.ENCODERS),
}
SOUND_RATE = 16_000
SPEC = ClipSpec(duration_sec=2.0)
SYNC_SEC = 0.001
CLICK_SEC = 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


def source(folder: Path, case: Case) -> Path:
    """The file of a case, made once."""
    path = folder / f"{case}{clips.CONTAINERS[case.container].suffix}"
    return path if path.exists() else clips.make(path, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_picture_out_in_sync(case: Case, folder: Path, tmp_path: Path) -> None:
    path, out = source(folder, case), tmp_path / f"out{case.out}"
    times_sec = [float(time) for time in clips.times_sec(case.rate)]
    event_sec, end_sec = times_sec[clips.FLASH], times_sec[-1]
    last_sec = end_sec - times_sec[-2]
    track = media.read_track(path)
    assert float(track.duration) == pytest.approx(end_sec, abs=last_sec)

    # What was heard is put back.
    sound = media.read_audio(path, SOUND_RATE)
    planned = media.plan(track, case.out)
    planned.write(out, sound, SOUND_RATE)
    copied = case.codec in COPIED[case.out]
    assert (planned.obstacle == "") == copied, planned.obstacle

    before, after = clips.shown(path), clips.shown(out)
    assert len(after) == len(before) == clips.NUM_FRAMES
    shown_sec = np.array([shown.time_sec for shown in after])
    np.testing.assert_allclose(shown_sec - shown_sec[0], times_sec[:-1], atol=2 * SYNC_SEC)
    assert [round(clips.number(shown.frame)) for shown in after] == list(range(clips.NUM_FRAMES))
    if copied:
        assert [shown.raw for shown in after] == [shown.raw for shown in before]
        # These two mark the parts of a packet in another way than mp4, mov and Matroska.
        if not (case.container in ("mpegts", "avi") and case.codec.startswith(("h264", "hevc"))):
            assert clips.packets(out) == clips.packets(path)
    for old, new in zip(before, after, strict=True):
        assert old.frame.shape == new.frame.shape == (clips.HEIGHT, clips.WIDTH, 3)
        assert np.abs(old.frame.astype(int) - new.frame).mean() < 6

    waveform, rate, start_sec = clips.heard(out)
    assert start_sec == pytest.approx(shown_sec[0], abs=SYNC_SEC)
    assert len(waveform) / rate == pytest.approx(end_sec, abs=last_sec)
    assert clips.click_sec(waveform, rate) == pytest.approx(event_sec, abs=CLICK_SEC)
    flashes_sec = [shown.time_sec for shown in after if clips.flashes(shown.frame)]
    assert flashes_sec[0] - shown_sec[0] == pytest.approx(event_sec, abs=2 * SYNC_SEC)


@functools.cache
def record(folder: Path, case: Case) -> dict:
    """What `data.build` makes of a file."""
    path = source(folder, case)
    row = {
        **{"clip_id": "a", "task": "v2s", "video": path.name, "transcript": ""},
        **{"voice": "", "voice_sample": "", "mouth_box": (8, 36, 40, 60)},
        **{"duration_sec": None, "event_times_sec": [], "phoneme_starts_sec": []},
    }
    return Videos(folder, WEIGHTS_FREE, SPEC).record(row)


@pytest.mark.parametrize("case", dict.fromkeys(c._replace(out=".mp4") for c in CASES), ids=str)
def test_a_dataset_has_it_on_the_same_time_line(case: Case, folder: Path) -> None:
    times_sec = [float(time) for time in clips.times_sec(case.rate)]
    event_sec, end_sec = times_sec[clips.FLASH], min(times_sec[-1], SPEC.duration_sec)
    found = record(folder, case)
    assert found["duration_sec"] == pytest.approx(end_sec, abs=0.1)
    sound = found["audio"].astype(np.float32)
    assert clips.click_sec(sound, SPEC.sampling_rate) == pytest.approx(event_sec, abs=CLICK_SEC)
    # The cell in the middle of the lower right quarter brightens once.
    brightening = found["sync"].reshape(SPEC.sync_frames, 2, 8, 6)[:, 0, 6, 4]
    seen_sec = int(np.argmax(brightening)) / SPEC.sync_rate
    # The picture that is nearest to a time may come half a frame before it.
    assert seen_sec == pytest.approx(event_sec, abs=1 / SPEC.sync_rate + 0.06)


@pytest.mark.parametrize("case", [c for c in CASES if c.turn != "0"], ids=str)
def test_a_turned_clip_has_the_features_of_the_upright_one(case: Case, folder: Path) -> None:
    turned = record(folder, case._replace(out=".mp4"))
    upright = record(folder, case._replace(out=".mp4", turn="0"))
    for name in ("visual", "sync", "lips"):
        scale = np.abs(upright[name]).max()
        np.testing.assert_allclose(turned[name], upright[name], atol=0.06 * scale)


def test_every_pair_is_met() -> None:
    assert len({case.container for case in CASES}) >= 6
    assert len({case.codec for case in CASES}) >= 8
    assert {(case.container, case.codec) for case in CASES} == {
        (name, codec) for name, kind in clips.CONTAINERS.items() for codec in kind.codecs
    }


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="a matter of Linux")
def test_making_a_file_leaves_the_process_its_priority(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0)
    clips.make(tmp_path / "clip.mkv", Case("matroska", "av1"))
    assert os.sched_getscheduler(0) == before
