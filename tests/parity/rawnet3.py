"""RawNet3 against `rawnet3.npz`, whose maps are cut to their beginnings."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from tests.parity import formula
from tests.parity.golden import FORWARD, Golden, Row

WAVEFORM = (2, 48_000)
# The logarithm of filters' outputs near zero magnifies rounding: another last bit in each sample
# of the waveform moves the first block's largest error to 5e-3 and that of the vector to 1e-5. The
# original's own vector in float32 is 3e-5 to 1e-4 away from what it computes in float64.
NEAR_ZERO = 1e-2
EMBEDDING = 1e-4


def check(golden: Golden) -> Iterator[Row]:
    """A row for the outputs of the filters, the maps of all blocks and the vector."""
    waveform = 0.1 * formula.noise(golden, "waveform", WAVEFORM)
    yield from formula.check_input(golden, waveform)
    network = formula.network(golden, "rawnet3")

    @nnx.jit
    def compute(network: Any, x: np.ndarray) -> tuple[jax.Array, tuple[jax.Array, ...], jax.Array]:
        return network.front_end.filtered(x), network.maps(x), network(x)

    filtered, maps, embedding = compute(network, waveform)
    yield golden.row("out/conv1", beginning(filtered), FORWARD)
    for number, found in enumerate(maps, start=1):
        yield golden.row(f"out/layer{number}", beginning(found), NEAR_ZERO)
    yield golden.row("out/embedding", embedding, EMBEDDING)


def beginning(maps: jax.Array) -> np.ndarray:
    """[b, t, d] -> PyTorch's [1, 8 channels, 64 frames]."""
    return np.swapaxes(maps, 1, 2)[:1, :8, :64]
