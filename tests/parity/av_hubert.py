"""AV-HuBERT on pictures alone against `av_hubert.npz`."""

from collections.abc import Iterator

import numpy as np
from flax import nnx

from tests.parity import formula
from tests.parity.golden import FORWARD, Golden, Row
from vssflow_jax.networks.av_hubert import AVHubert

MOUTHS = (1, 1, 13, 88, 88)  # one clip, one channel


def check(golden: Golden) -> Iterator[Row]:
    """A row for the features of the video alone, and for those of the network."""
    mouths = formula.noise(golden, "mouths", MOUTHS)
    yield from formula.check_input(golden, mouths)
    network = formula.network(golden, "av_hubert")
    front_end = nnx.jit(AVHubert.front_end)(network, mouths[0])
    yield golden.row("out/front_end", np.swapaxes(front_end, 1, 2), FORWARD)
    features = nnx.jit(AVHubert.__call__)(network, mouths[0])
    yield golden.row("out/features", features, FORWARD)
