"""What the networks are fed: pictures in their range, segments of videos and of voices."""

import numpy as np
import pytest

from vssflow_jax.networks import av_hubert, rawnet3, synchformer


def test_pictures_are_brought_into_the_range_of_each_network() -> None:
    pictures = np.array([0, 51, 255], np.uint8)
    np.testing.assert_allclose(synchformer.normalise(pictures), [-1, -0.6, 1], atol=1e-6)
    expected = (np.array([0, 0.2, 1]) - 0.421) / 0.165
    np.testing.assert_allclose(av_hubert.normalise(pictures), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("seconds", "segments"), [(10, 30), (12, 36), (15, 45), (20, 61), (60, 186), (0.6, 0)]
)
def test_segments_of_a_video(seconds: float, segments: int) -> None:
    frames = np.arange(round(25 * seconds))
    found = synchformer.segments(frames)
    assert found.shape == (segments, 16)
    assert found.tolist() == [[*range(8 * i, 8 * i + 16)] for i in range(segments)]


def test_segments_of_a_long_recording_lie_evenly() -> None:
    found = rawnet3.segments(np.arange(100_000))
    assert found.shape == (10, 48_000)
    assert found[:, 0].tolist() == [0, 5777, 11555, 17333, 23111, 28888, 34666, 40444, 46222, 52000]
    assert np.all(np.diff(found, axis=1) == 1)


def test_a_short_recording_begins_anew_at_its_end() -> None:
    found = rawnet3.segments(np.arange(20_000))
    # It is made one sample longer than a segment.
    assert found[:, 0].tolist() == [0] * 9 + [1]
    assert found[0].tolist() == [*range(20_000), *range(20_000), *range(8_000)]
    assert rawnet3.segments(np.arange(48_000))[:, 0].tolist() == [0] * 10
