"""The weights-free encoders: their geometry, and that pictures beside each other add up."""

import numpy as np
import pytest

from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.footage import Box, Encoder, Encoders, Footage
from vssflow_jax.features.weights_free import WEIGHTS_FREE, pool
from vssflow_jax.utils.errors import Rejected

HEIGHT, WIDTH = 128, 192
MOUTH = (30, 80, 66, 104)
SHORT, LONG = ClipSpec(duration_sec=3.0), ClipSpec(duration_sec=10.0)
MEL_BANDS = 64


@pytest.fixture
def frames() -> np.ndarray:
    """A three-second clip of noise."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (SHORT.video_frames, HEIGHT, WIDTH, 3), dtype=np.uint8)


def encode(
    encoder: Encoder, frames: np.ndarray, spec: ClipSpec = SHORT, mouth: Box | None = MOUTH
) -> np.ndarray:
    """Features of pictures, whatever their size."""
    look = encoder.look(spec, mouth)
    # In two blocks: what is kept of pictures does not depend on how they are cut.
    first, second = np.split(frames, [len(frames) // 3])
    kept = look and np.concatenate([look.keep(first, first[0]), look.keep(second, first[-1])])
    return encoder(Footage("clip", spec, spec.duration_sec, {encoder: kept} if look else {}))


def encode_voice(waveform: np.ndarray) -> np.ndarray:
    return WEIGHTS_FREE["speaker"](Footage("clip", SHORT, 3.0, {}, voice_sample=waveform))


def dark(num_frames: int) -> np.ndarray:
    return np.zeros((num_frames, HEIGHT, WIDTH, 3), np.uint8)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=16_000).astype(np.float32)


@pytest.mark.parametrize(
    ("spec", "visual_frames", "sync_frames"), [(SHORT, 30, 72), (LONG, 100, 240)], ids=["3s", "10s"]
)
def test_frame_rates(spec: ClipSpec, visual_frames: int, sync_frames: int):
    frames = dark(spec.video_frames)
    encoders = WEIGHTS_FREE
    visual, sync = encode(encoders["visual"], frames, spec), encode(encoders["sync"], frames, spec)
    lips = encode(encoders["lips"], frames, spec)
    assert visual.shape == (visual_frames, encoders["visual"].width)
    assert sync.shape == (sync_frames, encoders["sync"].width)
    assert lips.shape == (spec.video_frames, encoders["lips"].width)
    assert visual.dtype == sync.dtype == lips.dtype == np.float32


def test_the_voice_is_one_vector():
    speaker = encode_voice(noise(0))
    assert speaker.shape == (WEIGHTS_FREE["speaker"].width,)
    assert speaker.dtype == np.float32


def test_what_a_clip_does_not_bring_is_absent(frames: np.ndarray):
    assert encode(WEIGHTS_FREE["lips"], frames, mouth=None).shape == (0, WEIGHTS_FREE["lips"].width)
    assert not len(WEIGHTS_FREE["speaker"](Footage("clip", SHORT, 3.0, {})))


@pytest.mark.parametrize("mouth", [(150, 80, 200, 104), (30, 80, 66, 83)], ids=["outside", "small"])
def test_a_mouth_box_must_lie_in_the_picture(frames: np.ndarray, mouth: Box):
    with pytest.raises(Rejected, match="bad mouth_box"):
        encode(WEIGHTS_FREE["lips"], frames, mouth=mouth)


def test_encoders_are_a_plain_record():
    # Others can be put in their places one by one.
    other = Encoders({**WEIGHTS_FREE.by_stream, "sync": WEIGHTS_FREE["visual"]})
    assert other.widths == {**WEIGHTS_FREE.widths, "sync": WEIGHTS_FREE["visual"].width}
    assert [*other.of(["sync", "lips"]).by_stream] == ["sync", "lips"]
    assert WEIGHTS_FREE.lip_reader is WEIGHTS_FREE["lips"]
    assert WEIGHTS_FREE.of(["sync", "speaker"]).lip_reader is None


def test_pooling_is_the_mean_of_each_cell():
    images = np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6, 1)
    # Rows 0-1 and 2-3, columns 0-2 and 3-5 of 0 1 2 3 4 5 / 6 7 8 9 10 11 / ...
    np.testing.assert_array_equal(pool(images, 2, 2), [[4, 7, 16, 19], [28, 31, 40, 43]])


def test_pooling_refuses_cells_that_do_not_fit():
    with pytest.raises(AssertionError, match="4x6 in 2x4"):
        pool(np.zeros((1, 4, 6, 1)), 2, 4)


@pytest.mark.parametrize("name", ["visual", "sync"])
def test_pictures_beside_each_other_on_black_add_up(frames: np.ndarray, name: str):
    encoder = WEIGHTS_FREE[name]
    left, right = frames.copy(), frames.copy()
    left[:, :, WIDTH // 2 :] = 0
    right[:, :, : WIDTH // 2] = 0
    apart = encode(encoder, left) + encode(encoder, right)
    np.testing.assert_allclose(apart, encode(encoder, frames), atol=1e-5)
    assert np.abs(encode(encoder, left)).max() > 0.01


def test_colours_are_seen_where_and_when_they_are():
    frames = dark(SHORT.video_frames)
    # Video frame 50 is at 2 s: semantic frame 20, at 10 a second.
    frames[50, 64:96, 96:128] = (255, 0, 51)
    features = encode(WEIGHTS_FREE["visual"], frames).reshape(30, 4, 6, 3)
    seen = features[20, 2, 3] / WEIGHTS_FREE["visual"].gain
    np.testing.assert_allclose(seen, [1, 0, 0.2], rtol=1e-4)
    features[20, 2, 3] = 0
    assert not features.any()


def test_still_pictures_have_no_motion(frames: np.ndarray):
    still = np.repeat(frames[:1], SHORT.video_frames, axis=0)
    assert not encode(WEIGHTS_FREE["sync"], still).any()


def test_a_change_at_any_frame_is_seen_when_it_happens():
    for frame in range(1, SHORT.video_frames):
        frames = np.zeros((SHORT.video_frames, 8, 6, 3), np.uint8)
        frames[frame:] = 255  # Everything changes once, between frame - 1 and frame.
        features = encode(WEIGHTS_FREE["sync"], frames)
        (seen,) = np.nonzero(features.any(axis=1))
        assert len(seen) == 1, f"frame {frame}"
        # Feature i is at i / 24 s; the change is at frame / 25 s.
        assert abs(seen[0] / 24 - frame / 25) <= 1 / 24, f"frame {frame}"


def test_motion_tells_brightening_from_darkening_and_grows_with_either():
    up, down, half = (dark(SHORT.video_frames) for _ in range(3))
    up[20:], down[:20], half[20:] = 200, 200, 100
    motions = [
        encode(WEIGHTS_FREE["sync"], frames).reshape(SHORT.sync_frames, 2, -1)
        for frames in (up, down, half)
    ]
    assert motions[0][:, 0].max() > 1
    assert np.abs(motions[0][:, 1]).max() < 1e-3
    np.testing.assert_allclose(motions[0], motions[1][:, ::-1], atol=1e-4)
    np.testing.assert_allclose(motions[0], 2 * motions[2], atol=1e-4)


def test_motion_is_seen_where_it_is():
    frames = dark(SHORT.video_frames)
    frames[20:, 16:32, 160:192] = 255  # The second of 8 rows of cells, the last of 6 columns.
    cells = (
        encode(WEIGHTS_FREE["sync"], frames).reshape(SHORT.sync_frames, 2, 8, 6).max(axis=(0, 1))
    )
    assert np.argwhere(cells > 1e-3).tolist() == [[1, 5]]


def test_lips_see_the_mouth_and_nothing_else(frames: np.ndarray):
    x0, y0, x1, y1 = MOUTH
    blank = np.zeros_like(frames)
    blank[:, y0:y1, x0:x1] = frames[:, y0:y1, x0:x1]
    np.testing.assert_array_equal(
        encode(WEIGHTS_FREE["lips"], blank), encode(WEIGHTS_FREE["lips"], frames)
    )
    dark_mouth = frames.copy()
    dark_mouth[:, y0:y1, x0:x1] = 0
    assert not encode(WEIGHTS_FREE["lips"], dark_mouth).any()


def lips(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shape of the mouth and its change, both [n, rows, columns]."""
    encoder = WEIGHTS_FREE["lips"]
    features = encode(encoder, frames).reshape(len(frames), 2, encoder.rows, encoder.columns)
    return features[:, 0], features[:, 1]


def test_lips_hold_shape_and_change_of_the_same_frame():
    frames = dark(SHORT.video_frames)
    frames[30:, 80:92] = 255  # The upper half of the mouth turns white at frame 30.
    shape, change = lips(frames)
    step = shape[30] - shape[29]
    assert np.abs(step).max() > 1
    # Less the clip's own mean: 45 of 75 frames are white.
    np.testing.assert_allclose(
        shape[:30], np.broadcast_to(-0.6 * step, shape[:30].shape), atol=1e-4
    )
    np.testing.assert_allclose(shape[30:], np.broadcast_to(0.4 * step, shape[30:].shape), atol=1e-4)
    np.testing.assert_allclose(change[30], step, atol=1e-4)
    np.testing.assert_allclose(np.delete(change, 30, axis=0), 0, atol=1e-4)


def test_lip_shape_is_an_orthonormal_cosine_transform():
    # A mouth of even grey is one number: grey times the square root of its pixels.
    frames = dark(SHORT.video_frames)
    frames[40:] = 51
    step = np.diff(lips(frames)[0][39:41], axis=0)[0] / WEIGHTS_FREE["lips"].gain
    x0, y0, x1, y1 = MOUTH
    assert step[0, 0] == pytest.approx(0.2 * np.sqrt((y1 - y0) * (x1 - x0)), rel=1e-4)
    assert np.abs(step).sum() == pytest.approx(step[0, 0], abs=1e-3)
    # Stripes across, light above and dark below, are the first cosine down the rows and not the
    # first one along the columns.
    frames[40:] = 0
    frames[40:, 80:92] = 255
    step = np.diff(lips(frames)[0][39:41], axis=0)[0]
    assert step[1, 0] > 1
    np.testing.assert_allclose(step[:, 1:], 0, atol=1e-4)


def test_a_still_face_says_nothing_whoever_it_is(frames: np.ndarray):
    still = np.repeat(frames[:1], SHORT.video_frames, axis=0)
    np.testing.assert_allclose(encode(WEIGHTS_FREE["lips"], still), 0, atol=1e-4)


def test_a_voice_is_known_at_any_level_and_around_any_silence():
    voice, silence = noise(0), np.zeros(16_000, np.float32)
    alone = encode_voice(voice)
    np.testing.assert_allclose(encode_voice(0.05 * voice), alone, atol=1e-3)
    # Only the louder half of the frames counts.
    late = encode_voice(np.concatenate([silence, voice]))
    assert np.abs(late - alone)[:MEL_BANDS].max() < 0.5
    assert np.abs(late - alone)[:MEL_BANDS].mean() < 0.15


def test_voices_of_another_colour_are_told_apart():
    bright = noise(0)
    dull = np.cumsum(bright)
    dull -= np.linspace(dull[0], dull[-1], len(dull))
    same = np.abs(encode_voice(noise(1)) - encode_voice(bright))[:MEL_BANDS]
    other = np.abs(encode_voice(dull) - encode_voice(bright))[:MEL_BANDS]
    assert other.mean() > 5 * same.mean()
