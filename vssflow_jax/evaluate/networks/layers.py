"""Layers that the networks share, on weights under PyTorch's names and in its layouts.

Letters: b batch, t time, f frequency, c channels, d width. Maps are [b, t, f, c].
"""

import jax
import jax.numpy as jnp
from jax.lax import Precision

from vssflow_jax.evaluate.networks.weights import Weights

EPSILON = 1e-5  # of PyTorch's norms


def linear(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    """[..., d] -> [..., d']."""
    product = jnp.matmul(x, weights[f"{name}.weight"].T, precision=Precision.HIGHEST)
    return product + weights[f"{name}.bias"]


def convolution(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """A kernel [c', c, 3, 3] over [b, t, f, c], zeros around -> [b, t, f, c']."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "OIHW", "NHWC"),
        precision=Precision.HIGHEST,
    )


def halves(x: jax.Array) -> jax.Array:
    """Squares of 2 x 2 in time and frequency: [b, t, f, c] -> [b, t // 2, 2, f // 2, 2, c]."""
    b, t, f, c = x.shape
    return x[:, : t // 2 * 2, : f // 2 * 2].reshape(b, t // 2, 2, f // 2, 2, c)


def batch_norm(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    """With the statistics of the training, over the last axis."""
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    scale = weights[f"{name}.weight"] * jax.lax.rsqrt(variance + EPSILON)
    return (x - mean) * scale + weights[f"{name}.bias"]


def layer_norm(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    """Over the last axis."""
    normed = jax.nn.standardize(x, epsilon=EPSILON)
    return normed * weights[f"{name}.weight"] + weights[f"{name}.bias"]
