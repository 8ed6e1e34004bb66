"""UTMOS's strong learner against `utmos.npz`."""

from collections.abc import Iterator

import numpy as np
from flax import nnx

from tests.parity import formula
from tests.parity.golden import FORWARD, Golden, Row
from vssflow_jax.networks.utmos import UTMOS

WAVEFORMS = (2, 16_000)


def check(golden: Golden) -> Iterator[Row]:
    """A row for the number of frames, for what wav2vec makes of them, and for the scores."""
    waveforms = 0.1 * formula.noise(golden, "waveform", WAVEFORMS)
    yield from formula.check_input(golden, waveforms)
    network = formula.network(golden, "utmos")
    features = nnx.jit(UTMOS.features)(network, waveforms)
    yield golden.row("out/frames", np.asarray(features.shape[1]), FORWARD)
    yield golden.row("out/ssl", features[:, :8, :64], FORWARD)
    yield golden.row("out/score", nnx.jit(UTMOS.__call__)(network, waveforms), FORWARD)
