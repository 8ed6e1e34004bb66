"""KL divergence and inception score, where they can be said by hand."""

import numpy as np
import pytest

from vssflow_jax.evaluate.metrics.classes import inception_scores, kl_sigmoid, kl_softmax, shuffled
from vssflow_jax.utils.errors import UserError


def test_kl_is_of_the_reference_against_the_generated():
    reference, generated = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.75, 0.25], [0.9, 0.1]])
    expected = [0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25), 0]
    assert kl_softmax(reference, generated) == pytest.approx(expected)
    assert kl_softmax(reference + 7, generated - 3) == pytest.approx(expected)


def test_the_sigmoid_variant_counts_presence_only():
    present, absent = np.array([[0.0]]), np.array([[np.log(3)]])  # 1/2, 3/4
    assert kl_sigmoid(present, absent) == pytest.approx([0.5 * np.log(0.5 / 0.75)])


def test_logits_of_any_size_have_a_kl():
    logits = np.array([[-2000.0, 0.0, 50.0]], np.float32)
    assert kl_softmax(logits, -logits) == pytest.approx([2050.0])
    assert np.isfinite(kl_sigmoid(logits, -logits)).all()


def test_inception_score_of_certain_and_of_equal_clips():
    certain = 100 * np.eye(4).repeat(5, axis=0)
    assert inception_scores(certain, splits=1) == pytest.approx([4])
    equal = np.ones((20, 1)) * np.arange(4)
    assert inception_scores(equal) == pytest.approx(np.ones(10))


def test_splits_are_scored_by_themselves():
    """In the order of the splits, the first is of one class and the second of two."""
    logits = 100 * np.eye(3)[[0, 0, 0, 0, 1, 2, 1, 2]]
    assert sorted(inception_scores(logits[np.argsort(shuffled(8))], splits=2)) == pytest.approx(
        [1, 2]
    )
    assert sorted(inception_scores(logits, splits=2)) != pytest.approx([1, 2])


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((9, 3)), "9 clips, at least 10"),
        (np.tile([0.0, -2000.0], (20, 1)), "class 1 has probability 0"),
    ],
)
def test_what_has_no_score_is_refused(logits: np.ndarray, message: str):
    with pytest.raises(UserError, match=f"^inception score: .*{message}"):
        inception_scores(logits)
