"""Model FLOPs: by hand, against every matrix product that is traced, against XLA's own count."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.extend import core
from jax.interpreters import partial_eval

from configs import demo, vssflow
from tests import helpers
from vssflow_jax.models.conditions import PLACEMENTS
from vssflow_jax.models.flops import forward_flops, step_flops
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow


def by_hand() -> int:
    """Of `helpers.tiny_model`, whose phonemes, lips and motion lie beside the latent."""
    projectors = 6 * (5 * 24 + 24 * 12 + 7 * 16 + 16 * 8 + 6 * 20 + 20 * 10)  # visual, sync, lips
    inputs = 6 * (128 + 4 + 8 + 10) * 32  # latent, phonemes, sync, lips
    speaker = 9 * 16 + 16 * 8
    time = 16 * 32 + 32 * 32
    self_attention = 4 * 7 * 32 * 32 + 2 * 7 * 7 * 32
    cross_attention = 2 * 7 * 32 * 32 + 2 * 7 * 12 * 16 + 2 * 7 * 7 * 32
    feed_forward = 7 * 32 * 2 * 128 + 7 * 128 * 32
    blocks = 3 * (self_attention + cross_attention + feed_forward)
    output = 6 * 32 * 128
    return 2 * (projectors + inputs + speaker + time + blocks + output)


def test_a_small_model_by_hand():
    assert helpers.FRAMES == 6
    model = helpers.tiny_model_config("lip_synch_text", "float32")
    assert forward_flops(model, 6) == by_hand()
    assert step_flops(model, 6, clips=5) == 15 * by_hand()


def test_the_base_model():
    model = ModelConfig.from_config(vssflow.get_config().model)
    assert forward_flops(model, 250) == pytest.approx(233e9, rel=0.001)


def forward(model: ModelConfig, frames: int) -> tuple[Callable[..., jax.Array], tuple[Any, ...]]:
    """The network on one clip as a function of its trained weights and more; and their shapes."""
    network = nnx.eval_shape(lambda: VSSFlow(model, rngs=nnx.Rngs(0)))
    definition, params, frozen = nnx.split(network, nnx.Param, ...)

    def apply(params: Any, frozen: Any, x: jax.Array, t: jax.Array, features: Any) -> jax.Array:
        network = nnx.merge(definition, params, frozen)
        return network(x, t, network.encode(features))

    def shape(*sizes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *sizes), dtype)

    features = {name: shape(frames, width) for name, width in model.feature_widths.items()}
    features["speaker"] = shape(model.feature_widths["speaker"])
    features["phonemes"] = shape(frames, dtype=jnp.int32)
    return apply, (params, frozen, shape(frames, model.latent_channels), shape(), features)


def products(jaxpr: core.Jaxpr) -> int:
    """FLOPs of all matrix products of a traced function, loops run through."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += turns * sum(map(products, core.jaxprs_in_params(equation.params)))
    return total


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_product_is_counted(placement: str):
    model = helpers.tiny_model_config(placement, "float32")
    apply, arguments = forward(model, helpers.FRAMES)
    counted = products(jax.make_jaxpr(apply)(*arguments).jaxpr)
    assert counted == forward_flops(model, helpers.FRAMES)

    # A little less than three times: nobody needs the gradients of features and latent.
    gradient = jax.grad(lambda *arguments: jnp.sum(apply(*arguments)))
    traced = jax.make_jaxpr(gradient)(*arguments).jaxpr
    used, _ = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))
    trained = products(used)
    assert 0.95 < trained / step_flops(model, helpers.FRAMES, clips=1) < 1


def test_norms_of_queries_and_keys_multiply_no_matrices():
    model = helpers.tiny_model_config("lip_synch_text", "float32")
    transformer = dataclasses.replace(model.transformer, qk_norm=True)
    normed = dataclasses.replace(model, transformer=transformer)
    apply, arguments = forward(normed, helpers.FRAMES)
    counted = products(jax.make_jaxpr(apply)(*arguments).jaxpr)
    assert counted == forward_flops(normed, helpers.FRAMES) == forward_flops(model, helpers.FRAMES)


def test_padding_does_not_count():
    model = helpers.tiny_model_config("none", "float32")
    padded = dataclasses.replace(model.transformer, token_multiple=256)
    padded_model = dataclasses.replace(model, transformer=padded)
    assert forward_flops(padded_model, 250) == forward_flops(model, 250)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_xla_counts_the_same_and_a_percent_of_elementwise_work(placement: str):
    config = demo.get_config(f"ablation={placement}")
    config.model.transformer.layers = config.model.transformer.unroll = 1
    model = ModelConfig.from_config(config.model)
    apply, arguments = forward(model, 75)
    compiled = jax.jit(apply).lower(*arguments).compile()
    assert 1 < compiled.cost_analysis()["flops"] / forward_flops(model, 75) < 1.02
