"""The weights-free encoders: their geometry, and that pictures beside each other add up."""

import numpy as np
import pytest

from data.features import WEIGHTS_FREE, Encoders, pool
from vssflow_jax.clip import ClipSpec

HEIGHT, WIDTH = 128, 192
MOUTH = (30, 80, 66, 104)
SHORT, LONG = ClipSpec(duration_sec=3.0), ClipSpec(duration_sec=10.0)
MEL_BANDS = 64


@pytest.fixture
def frames() -> np.ndarray:
    """A three-second clip of noise."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (SHORT.video_frames, HEIGHT, WIDTH, 3), dtype=np.uint8)


def dark(num_frames: int) -> np.ndarray:
    return np.zeros((num_frames, HEIGHT, WIDTH, 3), np.uint8)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=16_000).astype(np.float32)


@pytest.mark.parametrize(
    ("spec", "clip_frames", "synch_frames"), [(SHORT, 30, 64), (LONG, 100, 240)], ids=["3s", "10s"]
)
def test_frame_rates(spec: ClipSpec, clip_frames: int, synch_frames: int):
    frames = dark(spec.video_frames)
    encoders = WEIGHTS_FREE
    clip, synch = encoders.clip(frames, spec), encoders.synch(frames, spec)
    lips = encoders.lips(frames, MOUTH)
    assert clip.shape == (clip_frames, encoders.clip.width)
    assert synch.shape == (synch_frames, encoders.synch.width)
    assert lips.shape == (spec.video_frames, encoders.lips.width)
    assert clip.dtype == synch.dtype == lips.dtype == np.float32


def test_the_voice_is_one_vector():
    speaker = WEIGHTS_FREE.speaker(noise(0))
    assert speaker.shape == (WEIGHTS_FREE.speaker.width,)
    assert speaker.dtype == np.float32


def test_encoders_are_a_plain_record():
    # Others can be put in their places one by one.
    other = Encoders(WEIGHTS_FREE.clip, WEIGHTS_FREE.clip, WEIGHTS_FREE.lips, WEIGHTS_FREE.speaker)
    assert other.synch is WEIGHTS_FREE.clip


def test_pooling_is_the_mean_of_each_cell():
    images = np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6, 1)
    # Rows 0-1 and 2-3, columns 0-2 and 3-5 of 0 1 2 3 4 5 / 6 7 8 9 10 11 / ...
    np.testing.assert_array_equal(pool(images, 2, 2), [[4, 7, 16, 19], [28, 31, 40, 43]])


def test_pooling_refuses_cells_that_do_not_fit():
    with pytest.raises(AssertionError, match="4x6 in 2x4"):
        pool(np.zeros((1, 4, 6, 1)), 2, 4)


@pytest.mark.parametrize("name", ["clip", "synch"])
def test_pictures_beside_each_other_on_black_add_up(frames: np.ndarray, name: str):
    encoder = getattr(WEIGHTS_FREE, name)
    left, right = frames.copy(), frames.copy()
    left[:, :, WIDTH // 2 :] = 0
    right[:, :, : WIDTH // 2] = 0
    apart = encoder(left, SHORT) + encoder(right, SHORT)
    np.testing.assert_allclose(apart, encoder(frames, SHORT), atol=1e-5)
    assert np.abs(encoder(left, SHORT)).max() > 0.01


def test_colours_are_seen_where_and_when_they_are():
    frames = dark(SHORT.video_frames)
    # Video frame 50 is at 2 s: semantic frame 20, at 10 a second.
    frames[50, 64:96, 96:128] = (255, 0, 51)
    features = WEIGHTS_FREE.clip(frames, SHORT).reshape(30, 4, 6, 3)
    np.testing.assert_allclose(features[20, 2, 3], [1, 0, 0.2], atol=1e-6)
    features[20, 2, 3] = 0
    assert not features.any()


def test_still_pictures_have_no_motion(frames: np.ndarray):
    still = np.repeat(frames[:1], SHORT.video_frames, axis=0)
    assert not WEIGHTS_FREE.synch(still, SHORT).any()


@pytest.mark.parametrize("frame", [5, 8, 20, 40, 71])
def test_windows_of_motion_cover_the_frames_they_should(frame: int):
    frames = dark(SHORT.video_frames)
    frames[frame:] = 255  # Everything changes once, between frame - 1 and frame.
    features = WEIGHTS_FREE.synch(frames, SHORT).reshape(8, 8, 2, -1)
    found = {tuple(index) for index in np.argwhere(features.any(axis=-1))}
    # Window w covers frames 8 w to 8 w + 15, two a feature.
    expected = {
        (w, (frame - 8 * w) // 2, (frame - 8 * w) % 2) for w in range(8) if 0 <= frame - 8 * w < 16
    }
    assert found == expected
    assert 1 <= len(expected) <= 2


def test_motion_grows_with_the_change_and_not_with_its_sign():
    up, down, half = (dark(SHORT.video_frames) for _ in range(3))
    up[20:], down[:20], half[20:] = 200, 200, 100
    motions = [WEIGHTS_FREE.synch(frames, SHORT) for frames in (up, down, half)]
    np.testing.assert_allclose(motions[0], motions[1], atol=1e-5)
    np.testing.assert_allclose(motions[0], 2 * motions[2], atol=1e-5)


def test_lips_see_the_mouth_and_nothing_else(frames: np.ndarray):
    x0, y0, x1, y1 = MOUTH
    blank = np.zeros_like(frames)
    blank[:, y0:y1, x0:x1] = frames[:, y0:y1, x0:x1]
    np.testing.assert_array_equal(WEIGHTS_FREE.lips(blank, MOUTH), WEIGHTS_FREE.lips(frames, MOUTH))
    dark_mouth = frames.copy()
    dark_mouth[:, y0:y1, x0:x1] = 0
    assert not WEIGHTS_FREE.lips(dark_mouth, MOUTH).any()


def test_lips_hold_shape_and_change_of_the_same_frame():
    frames = dark(SHORT.video_frames)
    frames[30:, 80:92] = 255  # The upper half of the mouth turns white at frame 30.
    shape, change = np.split(WEIGHTS_FREE.lips(frames, MOUTH), 2, axis=1)
    assert not shape[:30].any()
    assert np.abs(shape[30:]).max() > 1
    np.testing.assert_array_equal(shape[30:], np.broadcast_to(shape[30], shape[30:].shape))
    np.testing.assert_allclose(change[30], shape[30], atol=1e-5)
    assert not np.delete(change, 30, axis=0).any()


def test_lip_shape_is_an_orthonormal_cosine_transform():
    # A mouth of even grey is one number: grey times the square root of its pixels.
    frames = dark(SHORT.video_frames)
    frames[:] = 51
    shape = WEIGHTS_FREE.lips(frames, MOUTH)[:, : WEIGHTS_FREE.lips.width // 2]
    x0, y0, x1, y1 = MOUTH
    np.testing.assert_allclose(shape[:, 0], 0.2 * np.sqrt((y1 - y0) * (x1 - x0)), rtol=1e-4)
    np.testing.assert_allclose(shape[:, 1:], 0, atol=1e-4)


def test_a_voice_is_known_at_any_level_and_around_any_silence():
    voice, silence = noise(0), np.zeros(16_000, np.float32)
    alone = WEIGHTS_FREE.speaker(voice)
    np.testing.assert_allclose(WEIGHTS_FREE.speaker(0.05 * voice), alone, atol=1e-3)
    # Only the louder half of the frames counts.
    late = WEIGHTS_FREE.speaker(np.concatenate([silence, voice]))
    assert np.abs(late - alone)[:MEL_BANDS].max() < 0.5
    assert np.abs(late - alone)[:MEL_BANDS].mean() < 0.15


def test_voices_of_another_colour_are_told_apart():
    bright = noise(0)
    dull = np.cumsum(bright)
    dull -= np.linspace(dull[0], dull[-1], len(dull))
    same = np.abs(WEIGHTS_FREE.speaker(noise(1)) - WEIGHTS_FREE.speaker(bright))[:MEL_BANDS]
    other = np.abs(WEIGHTS_FREE.speaker(dull) - WEIGHTS_FREE.speaker(bright))[:MEL_BANDS]
    assert other.mean() > 5 * same.mean()
