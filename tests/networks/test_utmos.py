"""UTMOS: scores of utterances of different lengths in one batch; its front end and its memory."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from transformers import Wav2Vec2Config, Wav2Vec2Model

from tests.networks import small
from tests.networks.test_layers import assert_same, bring_over, random, randomised, tensors_of
from vssflow_jax.networks.convert import Names
from vssflow_jax.networks.utmos import Memory
from vssflow_jax.networks.wav2vec import FeatureExtractor, frames_of
from vssflow_jax.weights.mapping import Rule

WAVES = np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)


def test_the_front_end_is_that_of_wav2vec() -> None:
    config = Wav2Vec2Config(conv_dim=(8,) * 7, num_hidden_layers=0)
    theirs = randomised(Wav2Vec2Model(config).feature_extractor)
    ours = FeatureExtractor(8, rngs=nnx.Rngs(0))
    names = Names(
        modules={
            **{f"convs.{i}": f"conv_layers.{i}.conv." for i in range(7)},
        },
        rules=(
            Rule("scale_d", ("conv_layers.0.layer_norm.weight",), lambda x: x),
            Rule("bias_d", ("conv_layers.0.layer_norm.bias",), lambda x: x),
        ),
    )
    bring_over(ours, tensors_of(theirs), names)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(WAVES)).transpose(1, 2)
    assert_same(ours(jnp.asarray(WAVES), jnp.float32), wanted)


def test_the_memory_is_that_of_torch() -> None:
    theirs = randomised(torch.nn.LSTM(6, 5, batch_first=True))
    ours = Memory(6, 5, rngs=nnx.Rngs(0))
    names = Names(
        modules={},
        rules=(
            Rule("read.w_io", ("weight_ih_l0",), np.transpose),
            Rule("recall.w_io", ("weight_hh_l0",), np.transpose),
            Rule("read.b_o", ("bias_ih_l0", "bias_hh_l0"), np.add),
        ),
    )
    bring_over(ours, tensors_of(theirs), names)
    x = random(2, 9, 6)
    with torch.no_grad():
        wanted, _ = theirs(torch.from_numpy(x))
    assert_same(ours(jnp.asarray(x), jnp.ones((2, 9), bool)), wanted)


@pytest.mark.parametrize("samples", [400, 719, 720, 16_000])
def test_frames_of_samples(samples: int) -> None:
    x = FeatureExtractor(2, rngs=nnx.Rngs(0))(jnp.zeros((1, samples)), jnp.float32)
    assert x.shape[1] == frames_of(jnp.asarray(samples))


def test_a_score_knows_nothing_of_the_padding() -> None:
    network = small.network("utmos")
    samples = np.array([4000, 2345, 801], np.int32)
    padded = WAVES.copy()
    for row, length in zip(padded, samples, strict=True):
        row[length:] = 7
    together = network(jnp.asarray(padded), jnp.float32, jnp.asarray(samples))
    alone = [network(jnp.asarray(row[None, :n]))[0] for row, n in zip(WAVES, samples, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.std(alone) > 1e-3
