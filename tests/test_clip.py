"""Lengths of a clip, and the index tables that bring one frame rate to another."""

import numpy as np
import pytest

from vssflow_jax.clip import ClipSpec, fit_length, nearest, nearest_exact, stretch_phonemes


def test_lengths_of_the_paper():
    spec = ClipSpec(duration_sec=10.0)
    assert spec.num_samples == 160_000
    assert spec.mel_frames == 1000
    assert spec.latent_frames == 250
    assert spec.visual_frames == 100
    assert spec.video_frames == 250
    assert spec.sync_frames == 240


def test_lengths_of_the_demo():
    spec = ClipSpec(duration_sec=3.0)
    assert spec.num_samples == 48_000
    assert spec.mel_frames == 300
    assert spec.latent_frames == 75
    assert spec.visual_frames == 30
    assert spec.video_frames == 75
    assert spec.sync_frames == 72


@pytest.mark.parametrize(
    "duration_sec", [frames / 25 for frames in (1, 29, 57, 58, 75, 113, 116, 201, 250)]
)
def test_whole_latent_frames_are_not_lost_to_rounding(duration_sec: float):
    spec = ClipSpec(duration_sec=duration_sec)
    assert spec.latent_frames == round(duration_sec * 25)
    assert spec.mel_frames == 4 * spec.latent_frames
    assert spec.num_samples == 640 * spec.latent_frames


def test_nearest_by_hand():
    # Source position of output d is d * in / out, rounded down.
    np.testing.assert_array_equal(nearest(4, 10), [0, 0, 0, 1, 1, 2, 2, 2, 3, 3])
    np.testing.assert_array_equal(nearest(5, 2), [0, 2])
    np.testing.assert_array_equal(nearest(3, 3), [0, 1, 2])
    np.testing.assert_array_equal(nearest(1, 4), [0, 0, 0, 0])


def test_nearest_exact_by_hand():
    # The middle of output d is at (d + 0.5) * in / out, rounded down.
    np.testing.assert_array_equal(nearest_exact(4, 10), [0, 0, 1, 1, 1, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(nearest_exact(5, 2), [1, 3])
    np.testing.assert_array_equal(nearest_exact(3, 3), [0, 1, 2])
    np.testing.assert_array_equal(nearest_exact(1, 4), [0, 0, 0, 0])


# Outputs at which PyTorch's float32 falls just short of a whole number, and what it then picks.
NEAREST_IN_FLOAT32 = {
    100: {},
    105: {150: 62},
    130: {225: 116},
    195: {150: 116},
    210: {75: 62, 150: 125},
    265: {50: 52, 100: 105, 150: 158, 200: 211},
}
NEAREST_EXACT_IN_FLOAT32 = {36: {187: 26}, 144: {187: 107}, 240: {}}


@pytest.mark.parametrize(("num_in", "exceptions"), NEAREST_IN_FLOAT32.items())
def test_nearest_follows_float32(num_in: int, exceptions: dict[int, int]):
    exact = np.arange(250) * num_in // 250
    exact[list(exceptions)] = list(exceptions.values())
    np.testing.assert_array_equal(nearest(num_in, 250), exact)


@pytest.mark.parametrize(("num_in", "exceptions"), NEAREST_EXACT_IN_FLOAT32.items())
def test_nearest_exact_follows_float32(num_in: int, exceptions: dict[int, int]):
    exact = (2 * np.arange(250) + 1) * num_in // 500
    exact[list(exceptions)] = list(exceptions.values())
    np.testing.assert_array_equal(nearest_exact(num_in, 250), exact)


@pytest.mark.parametrize("table", [nearest, nearest_exact])
def test_indices_never_leave_the_source_nor_go_back(table):
    for num_in in range(1, 300, 7):
        for num_out in (1, 2, 61, 75, 250):
            indices = table(num_in, num_out)
            assert indices.shape == (num_out,)
            assert indices.min() >= 0
            assert indices.max() < num_in
            assert (np.diff(indices) >= 0).all()


@pytest.mark.parametrize("num_ids", [1, 4, 7, 20, 37, 58])
@pytest.mark.parametrize("num_frames", [58, 75, 250])
def test_stretched_phonemes_keep_order_and_share_the_frames_evenly(num_ids: int, num_frames: int):
    ids = np.arange(1, num_ids + 1, dtype=np.int32)
    stretched = stretch_phonemes(ids, num_frames)
    assert stretched.shape == (num_frames,)
    assert stretched.dtype == ids.dtype
    values, counts = np.unique(stretched, return_counts=True)
    np.testing.assert_array_equal(values, ids)
    assert (np.diff(stretched) >= 0).all()
    assert counts.max() - counts.min() <= 1


def test_equal_neighbours_stay_two_phonemes():
    stretched = stretch_phonemes(np.array([5, 5, 9]), 9)
    np.testing.assert_array_equal(stretched, [5, 5, 5, 5, 5, 5, 9, 9, 9])


def test_stretched_phonemes_by_hand():
    # 4 ids over 10 frames: each three times, and from those 12 the frames 0, 1.2, 2.4, ... down.
    np.testing.assert_array_equal(
        stretch_phonemes(np.array([7, 8, 9, 10]), 10), [7, 7, 7, 8, 8, 9, 9, 9, 10, 10]
    )
    # 20 ids over 250 frames: 13 times each makes 260; in float32, 225 * (260 / 250) is under 234.
    expected = np.arange(250) * 20 // 250
    expected[225] = 17
    np.testing.assert_array_equal(stretch_phonemes(np.arange(20), 250), expected)
    # More ids than frames: some are skipped.
    np.testing.assert_array_equal(stretch_phonemes(np.arange(10), 6), [0, 1, 3, 5, 6, 8])


def test_fit_length_cuts_and_pads_at_the_end():
    frames = np.arange(6, dtype=np.float32).reshape(3, 2) + 1
    np.testing.assert_array_equal(fit_length(frames, 2), [[1, 2], [3, 4]])
    padded = fit_length(frames, 5)
    np.testing.assert_array_equal(padded, [[1, 2], [3, 4], [5, 6], [0, 0], [0, 0]])
    assert padded.dtype == frames.dtype
    assert fit_length(np.zeros((0, 4)), 3).shape == (3, 4)
