"""DeSync: by how much sound and picture are apart, as Synchformer hears and sees it (av-benchmark).

Synchformer sorts a window of video and sound into one of 21 offsets. It is asked twice for each
clip, about its first and about its last 14 segments.
"""

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.evaluate.metrics.checks import check_paired_rows, check_rows

OFFSETS_SEC = np.linspace(-2, 2, 21, dtype=np.float32)
"""Of Synchformer's classes, in the precision of the original."""


def desync(
    first_logits: NDArray[np.floating], last_logits: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Mean absolute offset of the two windows of each clip.

    Args:
      first_logits: Synchformer's of the first window of each clip, [n, 21].
      last_logits: logits of the last window, [n, 21].

    Returns:
      Seconds [n], 0 to 2; their mean is the published DeSync.

    Raises:
      UserError: other shapes, no clips, a value that is not finite.
    """
    check_paired_rows("DeSync", first_logits, last_logits)
    return (absolute_offset(first_logits) + absolute_offset(last_logits)) / 2


def absolute_offset(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Absolute offset in seconds [n] of the likeliest class, the first of equals, in [n, 21].

    Raises:
      UserError: another shape, a value that is not finite.
    """
    check_rows("DeSync", logits, width=len(OFFSETS_SEC))
    return np.abs(OFFSETS_SEC[np.argmax(logits, axis=1)]).astype(np.float64)
