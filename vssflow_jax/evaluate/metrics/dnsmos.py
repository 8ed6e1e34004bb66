"""DNSMOS: how good speech sounds, as networks of Microsoft judge it without a reference.

Source: Reddy et al. 2022 (arXiv 2110.01763) for P.835, 2021 (arXiv 2010.15258) for P.808; the
package speechmos carries the networks.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.utils.optional import require

PACKAGE: Final = "speechmos"
EXTRA: Final = "metrics"
NAMES: Final = ("sig", "bak", "ovrl", "p808")
_SAMPLING_RATE: Final = 16_000


def dnsmos(waveform: NDArray[np.floating]) -> dict[str, float]:
    """Mean opinion scores of a sound, 1 (bad) to 5.

    Windows of 9.01 s are judged, one a second, and averaged; a shorter sound is repeated.

    Args:
      waveform: [n] at 16 kHz, full scale 1; louder samples are clipped, as a file would clip them.

    Returns:
      "sig" of the speech, "bak" of the background, "ovrl" of both (P.835), and "p808" (P.808).

    Raises:
      UserError: speechmos is not installed.
    """
    networks = require(f"{PACKAGE}.dnsmos", EXTRA)
    samples = np.clip(waveform, -1.0, 1.0).astype(np.float32)
    judged = networks.run(samples, _SAMPLING_RATE)
    return {name: float(judged[f"{name}_mos"]) for name in NAMES}
