"""KL divergence and inception score on the logits of a sound classifier, as in av-benchmark.

Source: `av_bench/metrics/kl.py` and `isc.py`, with the settings of its `evaluate.py`.
"""

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax, softmax

from vssflow_jax.utils.errors import UserError

SPLITS = 10
SHUFFLE_SEED = 2020


def kl_softmax(
    reference_logits: NDArray[np.floating], generated_logits: NDArray[np.floating]
) -> NDArray[np.float64]:
    """KL(reference || generated) of the classes, exclusive of one another, in nats.

    Args:
      reference_logits: [n, c].
      generated_logits: logits of the same clips, [n, c].

    Returns:
      A value for each clip [n]; their mean is the published KL.
    """
    reference, generated = _exact(reference_logits), _exact(generated_logits)
    difference = log_softmax(reference, axis=1) - log_softmax(generated, axis=1)
    return np.sum(softmax(reference, axis=1) * difference, axis=1)


def kl_sigmoid(
    reference_logits: NDArray[np.floating], generated_logits: NDArray[np.floating]
) -> NDArray[np.float64]:
    """As `kl_softmax`, but with the sigmoid of each class: the other of av-benchmark's two.

    As in the original, only the half of "the class is present" is summed, so that it is no
    divergence and may be negative.
    """
    reference, generated = _exact(reference_logits), _exact(generated_logits)
    difference = log_expit(reference) - log_expit(generated)
    return np.sum(expit(reference) * difference, axis=1)


def inception_scores(logits: NDArray[np.floating], splits: int = SPLITS) -> NDArray[np.float64]:
    """exp of the mean over clips of KL(classes of the clip || classes of all), split by split.

    Args:
      logits: logits of generated clips, [n, c].
      splits: parts into which the clips are divided, shuffled; the score depends on it.

    Returns:
      The score of each split; their mean is the published one.

    Raises:
      UserError: fewer clips than splits, or a class of probability 0 in all clips of a split.
    """
    if len(logits) < splits:
        raise UserError(f"inception score: {len(logits)} clips, at least {splits} are needed")
    rows = _exact(logits[shuffled(len(logits))])
    bounds = np.arange(splits + 1) * len(rows) // splits
    return np.array([_split_score(rows[a:b]) for a, b in itertools.pairwise(bounds)])


def _exact(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    return logits.astype(np.float64)


def shuffled(count: int) -> NDArray[np.intp]:
    """The order [count] in which the clips are divided; NumPy's legacy generator never changes."""
    return np.random.RandomState(SHUFFLE_SEED).permutation(count)


def _split_score(logits: NDArray[np.float64]) -> float:
    p = softmax(logits, axis=1)
    marginal = p.mean(axis=0)
    if not marginal.all():
        raise UserError(
            f"inception score: class {np.argmin(marginal)} has probability 0 in all clips of a "
            "split, and no logarithm; check the logits"
        )
    return np.exp(np.mean(np.sum(p * (log_softmax(logits, axis=1) - np.log(marginal)), axis=1)))
