"""What all networks that hear have in common."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLING_RATE = 16_000


class Outputs(NamedTuple):
    """What a network says of a sound.

    Attributes:
      features: float32 [d], or [windows, d] where it looks at one window after the other.
      logits: float32 [classes]; None if it tells no classes.
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None


Network = Callable[[NDArray[np.float32]], Outputs]
"""Of a waveform [n] at `SAMPLING_RATE`; raises UserError if it is too short."""
