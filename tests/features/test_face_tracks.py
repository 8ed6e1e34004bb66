"""Faces are followed through made-up pictures, and through a film of a talking man."""

from pathlib import Path

import numpy as np
import pytest

from tests.features.test_faces import film, written
from vssflow_jax import media
from vssflow_jax.features import face_tracks, faces
from vssflow_jax.features.face_tracks import FaceTrack, cut_out, follow, least_seen

__all__ = ["film"]  # a fixture

LEAD = 12  # pictures without a face, before the film


def boxes(count: int, left: float = 0.0, step: float = 1.0, size: float = 80.0) -> np.ndarray:
    """A face that moves to the right, [n, 4]."""
    lefts = left + step * np.arange(count)
    return np.stack([lefts, np.full(count, 20.0), lefts + size, np.full(count, 20 + size)], axis=1)


def shown(*people: np.ndarray) -> list[np.ndarray]:
    """What a finder sees of people, who are not seen where their boxes are NaN."""
    together = np.stack(people, axis=1)
    return [of_picture[~np.isnan(of_picture[:, 0])] for of_picture in together]


def hidden(face: np.ndarray, start: int, end: int) -> np.ndarray:
    seen = face.copy()
    seen[start:end] = np.nan
    return seen


def same(found: list[FaceTrack], *expected: tuple[int, np.ndarray]) -> None:
    assert [one.first for one in found] == [first for first, _ in expected]
    for one, (_, wanted) in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.boxes, wanted, atol=1e-9)


def test_a_gap_of_a_second_is_interpolated_and_a_longer_one_ends_a_track() -> None:
    face = boxes(80)
    same(follow(shown(hidden(face, 28, 52))), (0, face))
    same(follow(shown(hidden(face, 27, 53))))  # two tracks of 27 pictures, of 80
    same(follow(shown(hidden(face, 44, 70))), (0, face[:44]))


def test_two_people_are_two_tracks_whoever_is_found_first() -> None:
    one, other = boxes(60), boxes(60, left=300, step=-2)
    same(follow(shown(one, other)), (0, one), (0, other))
    mixed = [found[:: 1 if number % 3 else -1] for number, found in enumerate(shown(one, other))]
    same(follow(mixed), (0, other), (0, one))


def test_of_two_boxes_the_nearer_one_goes_on() -> None:
    one, other = boxes(60, step=0), boxes(60, left=25, step=0)  # intersection over union 0.52
    same(follow([found[::-1] for found in shown(one, other)]), (0, other), (0, one))


def test_a_cut_ends_a_track() -> None:
    face = np.concatenate([boxes(30), boxes(30, left=200)])
    same(follow(shown(face)), (0, face[:30]), (30, face[30:]))
    face = np.concatenate([boxes(25), boxes(35, left=200)])
    same(follow(shown(face)), (25, face[25:]))


@pytest.mark.parametrize(
    ("count", "least"), [(6, 7), (20, 10), (75, 37), (200, 100), (201, 100), (5000, 100)]
)
def test_how_long_a_face_is_to_be_seen(count: int, least: int) -> None:
    assert least_seen(count) == least
    face = boxes(count, step=0)
    assert len(follow(shown(hidden(face, least, count)))) == (count >= least)
    assert not follow(shown(hidden(face, least - 1, count)))


def test_faces_that_are_small_do_not_count() -> None:
    assert not follow(shown(boxes(50, size=49)))
    assert follow(shown(boxes(50, size=50)))
    high = boxes(50, size=30)
    high[:, 3] = high[:, 1] + 60
    assert follow(shown(high))
    assert follow([np.zeros((0, 4))] * 50) == []


def test_one_box_that_is_wrong_moves_nothing() -> None:
    face = boxes(40, step=0)
    face[20] += 10, -7, 30, 5
    squares = face_tracks.smooth_squares(face)
    np.testing.assert_array_equal(squares, np.tile([40, 60, 40], (40, 1)))
    moving = face_tracks.smooth_squares(boxes(40))
    np.testing.assert_array_equal(moving[6:-6, 0], 40 + np.arange(6, 34))
    assert len(face_tracks.smooth_squares(boxes(7))) == 7
    assert face_tracks.smooth_squares(boxes(7)).min() > 0


def test_what_is_cut_out_is_the_face_with_its_channels_turned() -> None:
    rows, columns = np.mgrid[:250, :250]
    picture = np.stack([columns, rows, np.full_like(rows, 7)], axis=2).astype(np.uint8)
    crop = cut_out(picture, x=120.3, y=90.8, half=50.0).astype(float)
    assert crop.shape == (224, 224, 3)
    # From 50.3 to 190.3, and from 40.8 to 180.8: 140 pixels each way, of whole ones.
    steps = (np.arange(224) + 0.5) * 140 / 224 - 0.5
    wanted = steps.clip(0, 139)
    np.testing.assert_array_equal(crop[..., 0], 7)
    assert np.abs(crop[..., 1] - (40 + wanted)[:, None]).max() <= 0.51
    assert np.abs(crop[..., 2] - (50 + wanted)[None]).max() <= 0.51


def test_beyond_the_picture_it_is_grey() -> None:
    picture = np.full((100, 120, 3), 255, np.uint8)
    crop = cut_out(picture, x=10.0, y=10.0, half=40.0)  # rows -30 to 82, columns -46 to 66
    down, across = (slice(0, 58), slice(62, None)), (slice(0, 90), slice(94, None))
    assert (crop[down[0]] == 110).all()
    assert (crop[:, across[0]] == 110).all()
    assert (crop[down[1], across[1]] == 255).all()
    assert (cut_out(picture, x=-300.0, y=500.0, half=20.0) == 110).all()


# --------------------------------------------------------------------------------------- a real one
@pytest.fixture(scope="module")
def late(film: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The man is seen from the thirteenth picture on."""
    grey = np.full((LEAD, *film.shape[1:]), 90, np.uint8)
    frames = np.concatenate([grey, film[:40]])
    return written(tmp_path_factory.mktemp("film") / "late.mp4", frames)


def test_the_face_of_a_film_is_followed_and_cut_out(late: Path, film: np.ndarray) -> None:
    track = media.read_track(late)
    face = face_tracks.find(track, LEAD + 40)
    assert face is not None
    assert (face.first, face.boxes.shape) == (LEAD, (40, 4))
    crops = face_tracks.cut(track, face)
    assert crops.shape == (40, 224, 224, 3)
    assert crops.dtype == np.uint8
    for crop in crops[6:-6:9]:
        (found,) = faces.find(np.ascontiguousarray(crop[..., ::-1]))
        size = found.box[2:] - found.box[:2]
        assert abs(size.max() - 224 / 1.4) < 20
        assert np.abs((found.box[:2] + found.box[2:]) / 2 - (112, 80)).max() < 12
    # Skin is redder than blue.
    assert crops[..., 2].mean() > crops[..., 0].mean() + 10


def test_a_video_without_a_face_has_no_track(late: Path) -> None:
    assert face_tracks.find(media.read_track(late), LEAD) is None
