"""RawNet3 as ESPnet has it against `rawnet3_espnet.npz`: vectors, and what VERSA makes of two."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from tests.parity import formula
from tests.parity.golden import METRIC, Golden, Row
from tests.parity.rawnet3 import NEAR_ZERO, beginning
from vssflow_jax.evaluate.metrics.of_sets import cosine_similarity

LENGTHS = (50_321, 20_007)
HELD = 8  # samples that the second sound stays the same
# ESPnet's own vectors in float32 are 5e-5 to 8e-5 away from those in float64, mostly since it makes
# its filters in float32; ours are 9e-6 away.
EMBEDDING = 3e-5


def check(golden: Golden) -> Iterator[Row]:
    """A row for what is pooled, for the vectors of two sounds in one batch, and their cosine."""
    waveforms = sounds(golden)
    yield from formula.check_input(golden, waveforms)
    network = formula.network(golden, "rawnet3")

    @nnx.jit
    def compute(network: Any, x: np.ndarray, n: np.ndarray) -> tuple[jax.Array, jax.Array]:
        own = network.own(x.shape[1], n)
        return jax.nn.relu(network.maps(x, own=own)[-1]), network(x, samples=n)

    joined, embeddings = compute(network, waveforms, np.array(LENGTHS, np.int32))
    yield golden.row("out/joined", beginning(joined[1:]), NEAR_ZERO)
    yield golden.row("out/embedding", embeddings, EMBEDDING)
    cosine = cosine_similarity(np.asarray(embeddings[:1]), np.asarray(embeddings[1:]))
    yield golden.row("out/cosine", cosine[0], METRIC)


def sounds(golden: Golden) -> np.ndarray:
    """Noise, and less of it that is held; zeros behind that."""
    waveforms = 0.1 * formula.noise(golden, "waveform", (2, LENGTHS[0]))
    waveforms[1] = np.repeat(waveforms[1], HELD)[: LENGTHS[0]]
    waveforms[1, LENGTHS[1] :] = 0
    return waveforms
