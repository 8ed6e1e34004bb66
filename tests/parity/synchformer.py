"""Synchformer's picture side against `synchformer.npz`."""

from collections.abc import Iterator

import numpy as np
from flax import nnx

from tests.parity import formula
from tests.parity.golden import FORWARD, Golden, Row
from vssflow_jax.networks.synchformer import Synchformer

VIDEO = (1, 2, 16, 3, 224, 224)  # one of two segments


def check(golden: Golden) -> Iterator[Row]:
    """A row for the features of two segments."""
    video = np.clip(0.5 * formula.noise(golden, "video", VIDEO), -1, 1)
    yield from formula.check_input(golden, video)
    network = formula.network(golden, "synchformer")
    features = nnx.jit(Synchformer.__call__)(network, np.moveaxis(video[0], 2, -1))
    yield golden.row("out/features", features[None], FORWARD)
