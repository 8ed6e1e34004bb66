import numpy as np
import pytest

from vssflow_jax.evaluate.networks.synchformer import absolute_offset, desync


def test_offsets_go_from_minus_two_to_two_seconds():
    expected = np.abs(np.arange(-10, 11)) / 5
    assert absolute_offset(np.eye(21)) == pytest.approx(expected, abs=1e-7)


def test_the_first_of_equal_classes_is_taken():
    logits = np.zeros((2, 21))
    logits[1, [8, 15]] = 1.0
    assert absolute_offset(logits) == pytest.approx([2.0, 0.4])


def test_both_windows_of_a_clip_count_alike():
    assert desync(np.eye(21)[[10, 0]], np.eye(21)[[15, 0]]) == pytest.approx([0.5, 2.0])
