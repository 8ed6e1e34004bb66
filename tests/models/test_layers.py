"""Norms, rotary positions and weights, each against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.helpers import layer_norm, randomised, turn, weights_of
from vssflow_jax.models.layers import (
    LayerNorm,
    Linear,
    product,
    rope_tables,
    rotate,
    weight,
)


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_weight_says_what_its_axes_are():
    declared = weight(nnx.Rngs(0), (3, 5), ("embed", "ffw"))
    assert declared.shape == (3, 5)
    assert declared.dtype == jnp.float32
    assert declared.get_metadata()["out_sharding"] == ("embed", "ffw")


def test_a_weight_with_other_axes_than_its_shape_is_refused():
    with pytest.raises(AssertionError, match="other axes"):
        weight(nnx.Rngs(0), (3, 5), ("embed",))


def test_weights_from_one_stream_differ():
    rngs = nnx.Rngs(0)
    first, second = (Linear((8, 8), ("embed", "ffw"), rngs=rngs) for _ in range(2))
    assert not np.allclose(first.w_io[...], second.w_io[...])


def test_fresh_linear_keeps_variance():
    linear = Linear((256, 256), ("embed", "ffw"), rngs=nnx.Rngs(0))
    assert np.std(linear(random((64, 256)))) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("bias", [False, True])
def test_linear(bias: bool):
    linear = randomised(lambda: Linear((6, 4), ("embed", "ffw"), rngs=nnx.Rngs(0), bias=bias))
    x = random((2, 3, 6))
    expected = x @ np.asarray(linear.w_io[...])
    if bias:
        expected = expected + np.asarray(linear.b_o[...])
    np.testing.assert_allclose(linear(x), expected, atol=1e-6)
    assert linear(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


def test_the_gradient_of_a_map_is_as_fine_as_the_map():
    x, gradient = (jnp.asarray(random((8, 64, 6), seed), jnp.bfloat16) for seed in (1, 2))
    matrix = random((6, 6), 3)
    exact = np.einsum("bni,bno->io", *(np.asarray(x, np.float64) for x in (x, gradient)))

    def error(dtype: str) -> float:
        found = jax.grad(lambda w: jnp.sum((product(x, w) * gradient).astype(jnp.float32)))(
            jnp.asarray(matrix, dtype)
        )
        assert found.dtype == dtype
        return float(np.linalg.norm(np.asarray(found, np.float64) - exact) / np.linalg.norm(exact))

    assert error("float32") < 1e-6
    assert 1e-4 < error("bfloat16") < 2**-8


def test_layer_norm():
    norm = randomised(lambda: LayerNorm(16, rngs=nnx.Rngs(0)))
    x = 3 * random((2, 5, 16)) + 2
    expected = layer_norm(weights_of(norm), x.astype(np.float64))
    np.testing.assert_allclose(norm(x, jnp.float32), expected, atol=1e-5)


def test_layer_norm_of_near_constant_rows_is_damped_by_epsilon():
    norm = LayerNorm(2, rngs=nnx.Rngs(0))
    deviation = 1e-3  # Its square is a tenth of epsilon.
    expected = deviation / np.sqrt(deviation**2 + 1e-5)
    found = norm(jnp.array([deviation, -deviation]), jnp.float32)
    np.testing.assert_allclose(found, [expected, -expected], rtol=1e-5)


def test_layer_norm_takes_another_epsilon():
    x = jnp.array([1e-3, -1e-3])
    found = LayerNorm(2, rngs=nnx.Rngs(0), epsilon=3e-6)(x, jnp.float32)
    np.testing.assert_allclose(found, [0.5, -0.5], rtol=1e-5)


def test_layer_norm_computes_in_float32_whatever_comes_in():
    norm = LayerNorm(64, rngs=nnx.Rngs(0))
    # In bfloat16 the mean of these could not be told from 100.
    x = jnp.asarray(100 + random((4, 64)), jnp.bfloat16)
    normed = norm(x, jnp.bfloat16)
    assert normed.dtype == jnp.bfloat16
    assert norm(x, jnp.float32).dtype == jnp.float32
    expected = layer_norm(weights_of(norm), np.asarray(x, np.float64))
    np.testing.assert_allclose(np.asarray(normed, np.float64), expected, rtol=2**-8)


def test_rotation_by_definition():
    x = random((2, 7, 3, 16))
    turned = np.asarray(rotate(jnp.asarray(x), rope_tables(7, 16)))
    for clip in range(2):
        for head in range(3):
            expected = turn(x[clip, :, head].astype(np.float64))
            np.testing.assert_allclose(turned[clip, :, head], expected, atol=1e-6)


def test_rotation_leaves_position_zero_the_second_half_and_all_lengths_alone():
    x = random((1, 251, 2, 64))
    turned = np.asarray(rotate(jnp.asarray(x), rope_tables(251, 64)))
    np.testing.assert_array_equal(turned[:, 0], x[:, 0])
    np.testing.assert_array_equal(turned[..., 32:], x[..., 32:])
    assert np.abs(turned[:, 1:, :, :32] - x[:, 1:, :, :32]).max() > 1
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5
    )


def test_scores_of_rotated_queries_and_keys_depend_on_distance_only():
    query, key = (np.broadcast_to(random((16,), seed), (1, 251, 1, 16)) for seed in (1, 2))
    tables = rope_tables(251, 16)
    q, k = (np.asarray(rotate(jnp.asarray(x), tables))[0, :, 0] for x in (query, key))
    scores = q @ k.T
    for distance in (-200, -3, 0, 1, 50):
        diagonal = np.diagonal(scores, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-4)
    assert np.std(scores[0]) > 0.1


def test_rotation_in_bfloat16_uses_float32_angles():
    x = random((1, 251, 1, 64))
    rounded = jnp.asarray(x, jnp.bfloat16)
    turned = rotate(rounded, rope_tables(251, 64))
    assert turned.dtype == jnp.bfloat16
    expected = turn(np.asarray(rounded, np.float64)[0, :, 0])
    np.testing.assert_allclose(np.asarray(turned, np.float64)[0, :, 0], expected, atol=0.02)


def test_rotation_can_be_differentiated():
    x = jnp.asarray(random((1, 5, 1, 8)))
    # Lengths are kept, so the gradient of the squared length is 2 x.
    gradient = jax.grad(lambda x: jnp.sum(rotate(x, rope_tables(5, 8)) ** 2))(x)
    np.testing.assert_allclose(gradient, 2 * x, atol=1e-5)
