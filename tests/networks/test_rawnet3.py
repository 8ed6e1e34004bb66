"""RawNet3 of sounds of different lengths in one batch."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.networks import small
from vssflow_jax.networks import rawnet3
from vssflow_jax.networks.published import NETWORKS
from vssflow_jax.networks.rawnet3 import ESPNET, LEAST_SAMPLES, RawNet3Config


def test_a_vector_knows_nothing_of_the_padding() -> None:
    network = small.network("rawnet3")
    samples = np.array([4800, LEAST_SAMPLES + 500], np.int32)
    waves = np.random.default_rng(0).normal(size=(2, 4800)).astype(np.float32)
    waves[1, samples[1] :] = 7
    run = nnx.jit(lambda network, *given: network(given[0], jnp.float32, *given[1:]))
    told, untold = run(network, waves, samples), run(network, waves)
    (alone,) = run(network, waves[1:, : samples[1]])
    scale = float(jnp.abs(untold).max())
    np.testing.assert_allclose(told[0] / scale, untold[0] / scale, atol=1e-5)
    np.testing.assert_allclose(told[1] / scale, alone / scale, atol=1e-5)
    assert np.abs(untold[1] - alone).max() > 0.01 * scale  # It is heard, if nothing is told of it.


@pytest.mark.parametrize("stride", [RawNet3Config().stride, ESPNET.stride])
def test_own_frames_are_as_many_as_there_are_of_the_sound_alone(stride: int) -> None:
    cfg = dataclasses.replace(small.CASES["rawnet3"].cfg, stride=stride)
    samples = np.arange(LEAST_SAMPLES - 1, 2000, 23)
    own = NETWORKS["rawnet3"].make(cfg).own(2000, jnp.asarray(samples))
    frames = (samples - cfg.taps) // stride + 1
    for mask, pool in zip(own[1:], (1, *rawnet3.POOLS), strict=True):
        frames = frames // pool
        np.testing.assert_array_equal(np.asarray(mask).sum(axis=(1, 2)), frames)
    # One frame alone has no deviation.
    assert frames[1] >= 2
    assert frames[0] == 1 or stride < ESPNET.stride
