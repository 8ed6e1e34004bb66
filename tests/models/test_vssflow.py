"""The whole network: folded maps, guidance, precision, and every placement."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import demo
from tests.helpers import (
    FRAMES,
    SIZES,
    project,
    random_features,
    tiny_model,
    tiny_model_config,
    transform,
    velocity,
    weights_of,
)
from vssflow_jax.clip import LATENT_CHANNELS
from vssflow_jax.flow.guidance import guided
from vssflow_jax.models.conditions import PLACEMENTS, ConditionWidths
from vssflow_jax.models.transformer import TransformerConfig
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow, cast_maps
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.mapping import flatten

CLIPS = 2


def noisy_latent(rows: int = CLIPS, seed: int = 1) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, FRAMES, LATENT_CHANNELS))
    return jnp.asarray(x, jnp.float32), jnp.asarray(rng.uniform(size=rows), jnp.float32)


@pytest.fixture(scope="module")
def model() -> VSSFlow:
    return tiny_model()


def unfolded(model: VSSFlow, features, x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The network as the reference has it: everything side by side in one wide input and output.

    Its 1x1 convolutions are drawn at random, and the maps of `model` are overwritten by what they
    fold into, so that both networks must agree.
    """
    rng = np.random.default_rng(7)
    row = model.conditions.placement
    weights = weights_of(model)
    given = {name: np.asarray(value, np.float64) for name, value in features.items()}
    projected = {
        name: w["table_vo"][features["phonemes"]] if name == "phonemes" else project(w, given[name])
        for name, w in weights["conditions"]["projectors"].items()
    }
    side_by_side = [x.astype(np.float64), *(projected[name] for name in row.concatenated)]
    channels = sum(part.shape[-1] for part in side_by_side)
    width = model.input.w_io.shape[1]
    convolve_in, convolve_out = rng.normal(size=(2, channels, channels)) / np.sqrt(channels)
    project_in = rng.normal(size=(channels, width)) / np.sqrt(channels)
    project_out = rng.normal(size=(width, channels)) / np.sqrt(width)

    folded_in = (np.eye(channels) + convolve_in) @ project_in
    folded_out = (project_out @ (np.eye(channels) + convolve_out))[:, :LATENT_CHANNELS]
    ends = np.cumsum([part.shape[-1] for part in side_by_side])[:-1]
    own, *others = np.split(folded_in, ends)
    model.input.w_io[...] = jnp.asarray(own, jnp.float32)
    model.output.w_io[...] = jnp.asarray(folded_out, jnp.float32)
    for name, matrix in zip(row.concatenated, others, strict=True):
        model.conditions.inputs[name].w_io[...] = jnp.asarray(matrix, jnp.float32)

    speaker = project(weights["conditions"]["speaker"], given["speaker"])
    context, token = [None] * len(x), [0.0] * len(x)
    if row.attended:
        attended = np.concatenate([projected[name] for name in row.attended], axis=-1)
        first = np.pad(speaker, ((0, 0), (0, attended.shape[-1] - speaker.shape[-1])))
        context = np.concatenate([first[:, None], attended], axis=1)
    else:
        token = project(weights["conditions"]["speaker_to_token"], speaker)
    wide = np.concatenate(side_by_side, axis=-1)
    frames = (wide + wide @ convolve_in) @ project_in
    velocities = []
    for clip in range(len(x)):
        hidden = transform(
            weights["transformer"],
            frames[clip],
            float(t[clip]),
            context[clip],
            SIZES["heads"],
            SIZES["kv_heads"],
            token[clip],
        )
        wide_out = hidden @ project_out
        velocities.append((wide_out + wide_out @ convolve_out)[:, :LATENT_CHANNELS])
    return np.stack(velocities)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_folded_network_equals_the_reference_layout(placement: str):
    network = tiny_model(placement)
    features = random_features(CLIPS)
    x, t = noisy_latent()
    expected = unfolded(network, features, np.asarray(x), np.asarray(t))
    found = velocity(network, x, t, features)
    assert found.shape == (CLIPS, FRAMES, LATENT_CHANNELS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


@pytest.fixture(scope="module")
def fresh() -> VSSFlow:
    """A network as training starts with."""
    return VSSFlow(tiny_model_config("lip_synch_text", "float32"), rngs=nnx.Rngs(0))


def test_a_fresh_network_predicts_zero(fresh: VSSFlow):
    x, t = noisy_latent()
    assert not np.any(velocity(fresh, x, t, random_features(CLIPS)))


def test_every_block_has_its_own_start_values(fresh: VSSFlow):
    for path, stacked in nnx.to_flat_state(nnx.state(fresh.transformer.blocks)):
        assert stacked.shape[0] == SIZES["layers"], path
        if path[-1] not in ("b_o", "scale_d", "bias_d"):
            assert not np.allclose(stacked[0], stacked[1]), path
            assert not np.allclose(stacked[1], stacked[2]), path
            # The fan-in of one block, not of the stack.
            inputs = math.prod(stacked.shape[1 : 3 if path[-1] == "out_hkd" else 2])
            assert np.std(stacked[0]) == pytest.approx(inputs**-0.5, rel=0.2), path


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_guidance_is_two_separate_passes(placement: str):
    network = tiny_model(placement)
    features = random_features(CLIPS)
    x, t = noisy_latent()
    given = velocity(network, x, t, features, jnp.ones(CLIPS))
    free = velocity(network, x, t, features, jnp.zeros(CLIPS))
    assert np.abs(given - free).max() > 0.1

    @nnx.jit
    def at_once(network: VSSFlow, weight: jax.Array) -> jax.Array:
        return guided(network, network.encode(features), weight)(x, t)

    for weight in (0.0, 1.0, 3.0):
        expected = free + weight * (given - free)
        np.testing.assert_allclose(at_once(network, jnp.float32(weight)), expected, atol=5e-5)


def test_clips_do_not_see_each_other(model: VSSFlow):
    features = random_features(3)
    x, t = noisy_latent(3)
    together = velocity(model, x, t, features)
    last = {name: value[2:] for name, value in features.items()}
    alone = velocity(model, x[2:], t[2:], last)
    np.testing.assert_allclose(alone, together[2:], atol=1e-5)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_condition_matters(placement: str):
    network = tiny_model(placement)
    features, others = random_features(1), random_features(1, seed=5)
    x, t = noisy_latent(1)
    before = velocity(network, x, t, features)
    for name in features:
        after = velocity(network, x, t, features | {name: others[name]})
        assert np.abs(after - before).max() > 1e-3, name


def test_bfloat16_is_near_float32():
    features = random_features(CLIPS)
    x, t = noisy_latent()
    exact, rounded = (
        velocity(tiny_model(dtype=dtype), x, t, features) for dtype in ("float32", "bfloat16")
    )
    assert rounded.dtype == jnp.float32
    error = np.sqrt(np.mean((rounded - exact) ** 2) / np.mean(exact**2))
    assert 1e-5 < error < 0.03


def test_maps_cast_once_compute_the_same():
    features, (x, t) = random_features(CLIPS), noisy_latent()
    network = tiny_model(dtype="bfloat16")
    definition, state = nnx.split(network)
    weights = nnx.to_pure_dict(state)
    cast = cast_maps(weights, "bfloat16")
    dtypes = {name: leaf.dtype for name, leaf in flatten(cast).items()}
    assert dtypes["transformer.blocks.self_attention.q_dhk"] == "bfloat16"
    assert dtypes["conditions.inputs.lips.w_io"] == "bfloat16"
    assert dtypes["output.w_io"] == dtypes["transformer.blocks.norm1.scale_d"] == "float32"
    found = velocity(nnx.merge(definition, cast), x, t, features)
    np.testing.assert_array_equal(found, velocity(network, x, t, features))


def test_weights_are_float32_in_any_precision():
    network = tiny_model(dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(network))} == {jnp.dtype("float32")}


def test_gradients_reach_every_weight_but_the_frozen_ones(model: VSSFlow):
    features = random_features(CLIPS)
    x, t = noisy_latent()
    definition, weights, frozen = nnx.split(model, nnx.Param, ...)

    def loss(weights: nnx.State) -> jax.Array:
        network = nnx.merge(definition, weights, frozen)
        return jnp.mean(network(x, t, network.encode(features)) ** 2)

    for path, gradient in nnx.to_flat_state(jax.jit(jax.grad(loss))(weights)):
        assert np.abs(gradient[...]).max() > 1e-6, path


def test_size_of_the_paper():
    # REFERENCE counts 463,565,184 with wide maps; here the convolutions are folded, and only the
    # 128 latent channels are computed at the output.
    widths = {
        "visual": ConditionWidths(768, 768),
        "sync": ConditionWidths(768, 768),
        "lips": ConditionWidths(1024, 1024),
        "phonemes": ConditionWidths(200, 32),
        "speaker": ConditionWidths(256, 768),
    }
    config = ModelConfig("lip_synch_text", widths, TransformerConfig())
    shapes = nnx.eval_shape(lambda: VSSFlow(config, rngs=nnx.Rngs(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes)))
    channels, width = 1952, 1536
    assert count == 463_565_184 - 2 * channels**2 - width * (channels - LATENT_CHANNELS)


def test_config_section_becomes_a_network():
    section = demo.get_config().model
    section.placement = "lip_synch"
    config = ModelConfig.from_config(section)
    network = nnx.eval_shape(lambda: VSSFlow(config, rngs=nnx.Rngs(0)))
    # Attended: 64 channels of semantic features and 32 of phonemes, by 2 heads of 48.
    assert network.transformer.blocks.cross_attention.k_egk.shape == (8, 64 + 32, 2, 48)


def test_an_unknown_placement_is_one_clear_line():
    section = demo.get_config().model
    section.placement = "lips"
    with pytest.raises(UserError, match=r"model\.placement is 'lips'.*lip_synch_text"):
        ModelConfig.from_config(section)
