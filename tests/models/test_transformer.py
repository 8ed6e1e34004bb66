"""The transformer against a NumPy account of REFERENCE section 4, with every weight random."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.helpers import (
    FRAMES,
    SIZES,
    embed_time,
    randomised,
    tiny_transformer_config,
    transform,
    weights_of,
)
from vssflow_jax.models.transformer import (
    REMAT,
    Frozen,
    TimeEmbedding,
    Transformer,
    TransformerConfig,
)

CONFIG = tiny_transformer_config()
CONTEXT_TOKENS = 1 + FRAMES


@pytest.fixture(scope="module")
def network() -> Transformer:
    return randomised(lambda: Transformer(CONFIG, rngs=nnx.Rngs(0)))


@nnx.jit
def run(network: Transformer, frames, times, context) -> jax.Array:
    return network(frames, times, context)


def inputs(clips: int, rows: int = 1, seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Frames [b r, t, d], flow times [b r] and context [b, s, e]."""
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(clips * rows, FRAMES, CONFIG.width))
    times = rng.uniform(size=clips * rows)
    context = rng.normal(size=(clips, CONTEXT_TOKENS, CONFIG.context_width))
    return tuple(jnp.asarray(x, jnp.float32) for x in (frames, times, context))


def expected(network: Transformer, frames, times, contexts) -> np.ndarray:
    weights = weights_of(network)
    return np.stack(
        [
            transform(weights, frame, t, context, SIZES["heads"], SIZES["kv_heads"])
            for frame, t, context in zip(
                *(np.asarray(x, np.float64) for x in (frames, times, contexts)), strict=True
            )
        ]
    )


def test_forward_pass(network: Transformer):
    frames, times, context = inputs(clips=2)
    found = run(network, frames, times, context)
    np.testing.assert_allclose(found, expected(network, frames, times, context), atol=1e-5)


@pytest.mark.parametrize("context_width", [CONFIG.context_width, 0])
def test_queries_and_keys_are_normed_if_asked_for(context_width: int):
    config = tiny_transformer_config(qk_norm=True, context_width=context_width)
    normed = randomised(lambda: Transformer(config, rngs=nnx.Rngs(0)))
    frames, times, context = inputs(clips=2)
    attended = context if context_width else None
    found = run(normed, frames, times, attended)
    contexts = context if context_width else [None] * len(frames)
    weights = weights_of(normed)
    wanted = np.stack(
        [
            transform(weights, frame, t, one, SIZES["heads"], SIZES["kv_heads"])
            for frame, t, one in zip(
                np.asarray(frames, np.float64),
                np.asarray(times, np.float64),
                contexts if attended is None else np.asarray(contexts, np.float64),
                strict=True,
            )
        ]
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    # However large the maps of queries and keys become, attention stays as it is.
    attention = normed.blocks.self_attention
    attention.q_dhk[...] *= 100
    attention.k_egk[...] *= 100
    np.testing.assert_allclose(run(normed, frames, times, attended), found, atol=1e-4)


@nnx.jit
def gradients(network: Transformer, frames, times, context) -> nnx.State:
    return nnx.grad(lambda network: jnp.sum(network(frames, times, context) ** 2))(network)


@pytest.mark.parametrize(
    "how",
    [
        {"unroll": SIZES["layers"]},
        *({"remat": policy} for policy in REMAT),
        {"token_multiple": 8},
        {"token_multiple": 8, "remat": "full", "unroll": 2},
        {"remat": "products", "unroll": 2},
    ],
    ids=str,
)
def test_how_it_is_computed_does_not_change_what_is(network: Transformer, how: dict[str, Any]):
    other = randomised(lambda: Transformer(tiny_transformer_config(**how), rngs=nnx.Rngs(0)))
    given = inputs(clips=2)
    np.testing.assert_allclose(run(other, *given), run(network, *given), atol=1e-5)
    pairs = zip(*(jax.tree.leaves(gradients(one, *given)) for one in (other, network)), strict=True)
    for found, wanted in pairs:
        np.testing.assert_allclose(found, wanted, atol=1e-5 * float(jnp.abs(wanted).max()))


def test_blocks_taken_apart_compute_the_same(network: Transformer):
    config = tiny_transformer_config(unroll=SIZES["layers"])
    other = randomised(lambda: Transformer(config, rngs=nnx.Rngs(0)))
    other.take_apart()
    assert other.apart is not None
    assert len(other.apart) == SIZES["layers"]
    given = inputs(clips=2)
    np.testing.assert_allclose(run(other, *given), run(network, *given), atol=1e-5)
    network.take_apart()
    assert network.apart is None, "in a loop they stay together"


def test_a_residual_in_float32_makes_bfloat16_finer(network: Transformer):
    frames, times, context = inputs(clips=4)
    exact = np.asarray(run(network, frames, times, context))
    coarse = (frames.astype(jnp.bfloat16), times, context.astype(jnp.bfloat16))

    def error(residual_dtype: str) -> float:
        config = tiny_transformer_config(residual_dtype=residual_dtype)
        one = randomised(lambda: Transformer(config, rngs=nnx.Rngs(0)))
        found = run(one, *coarse)
        assert found.dtype == residual_dtype
        return float(np.linalg.norm(np.asarray(found, np.float32) - exact))

    assert error("float32") < 0.8 * error("bfloat16")


def test_full_rematerialisation_keeps_less(network: Transformer):
    given = inputs(clips=8)

    def scratch_bytes(remat: str) -> int:
        config = tiny_transformer_config(remat=remat)
        one = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
        return gradients.lower(one, *given).compile().memory_analysis().temp_size_in_bytes

    assert scratch_bytes("products") < 0.8 * scratch_bytes("none")
    assert scratch_bytes("full") < 0.8 * scratch_bytes("products")


def test_only_the_first_row_of_a_clip_sees_its_context(network: Transformer):
    frames, times, context = inputs(clips=2, rows=2)
    contexts = np.zeros((2, 2, *context.shape[1:]))
    contexts[:, 0] = context
    contexts = contexts.reshape(4, *context.shape[1:])
    found = run(network, frames, times, context)
    np.testing.assert_allclose(found, expected(network, frames, times, contexts), atol=1e-5)


def test_time_embedding():
    embedding = randomised(lambda: TimeEmbedding(CONFIG, rngs=nnx.Rngs(0)))
    times = np.array([0.0, 0.25, 1.0])
    found = embedding(jnp.asarray(times, jnp.float32), jnp.float32)
    weights = weights_of(embedding)
    np.testing.assert_allclose(found, [embed_time(weights, t) for t in times], atol=1e-5)


def test_time_frequencies_are_kept_apart_from_what_is_trained(network: Transformer):
    _, trained, frozen = nnx.split(network, nnx.Param, ...)
    assert [leaf.shape for leaf in jax.tree.leaves(frozen)] == [(SIZES["time_features"] // 2,)]
    assert isinstance(network.time.frequencies, Frozen)
    assert not any("frequencies" in str(path) for path, _ in nnx.to_flat_state(trained))


def test_clips_do_not_see_each_other(network: Transformer):
    frames, times, context = inputs(clips=3)
    together = run(network, frames, times, context)
    for clip in range(3):
        one = slice(clip, clip + 1)
        alone = run(network, frames[one], times[one], context[one])
        np.testing.assert_allclose(together[one], alone, atol=1e-5)


def test_every_weight_changes_the_result(network: Transformer):
    frames, times, context = inputs(clips=2)
    definition, weights, frozen = nnx.split(network, nnx.Param, ...)
    probe = jnp.asarray(np.random.default_rng(1).normal(size=frames.shape), jnp.float32)

    def total(weights: nnx.State) -> jax.Array:
        return jnp.sum(probe * nnx.merge(definition, weights, frozen)(frames, times, context))

    for path, gradient in nnx.to_flat_state(jax.jit(jax.grad(total))(weights)):
        assert np.abs(gradient[...]).max() > 1e-4, path


def test_size_of_the_paper():
    # REFERENCE counts 453,073,024 with 1x1 convolutions of 1952 channels and their projections,
    # which are folded into maps outside the transformer here.
    channels, width = 1952, 1536
    outside = 2 * channels**2 + 2 * channels * width
    shapes = nnx.eval_shape(lambda: Transformer(TransformerConfig(), rngs=nnx.Rngs(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes)))
    assert count == 453_073_024 - outside
