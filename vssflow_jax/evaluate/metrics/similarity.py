"""Cosine similarity of two embeddings: the image-bind score, the similarity of speakers."""

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.evaluate.metrics.checks import check_paired_rows

_MIN_NORM = 1e-8  # as in torch.cosine_similarity: a vector of zeros is similar to nothing


def cosine_similarity(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of the angle between each two embeddings.

    Args:
      a: [n, d], of any length; for the image-bind score of the video.
      b: [n, d]; of the sound.

    Returns:
      -1 to 1 for each pair [n]; their mean is the published score.

    Raises:
      UserError: shapes differ, no pairs, a value that is not finite.
    """
    check_paired_rows("cosine similarity", a, b)
    return np.sum(_unit(a) * _unit(b), axis=1)


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    return exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), _MIN_NORM)
