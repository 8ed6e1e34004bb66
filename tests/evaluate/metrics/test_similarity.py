import numpy as np
import pytest

from vssflow_jax.evaluate.metrics.similarity import cosine_similarity
from vssflow_jax.utils.errors import UserError


def test_it_is_the_cosine_whatever_the_lengths():
    a = np.array([[1.0, 0], [1, 0], [1, 0], [0, 0]], np.float32)
    b = np.array([[5.0, 0], [3, 3], [-0.1, 0], [1, 2]], np.float32)
    assert cosine_similarity(a, b) == pytest.approx([1, np.sqrt(0.5), -1, 0])


def test_other_widths_and_infinities_are_refused():
    with pytest.raises(UserError, match="one width"):
        cosine_similarity(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(UserError, match="row 1"):
        cosine_similarity(np.ones((2, 3)), np.array([[1.0] * 3, [np.inf] * 3]))
