"""What the networks share: their weights, and layers on them, in PyTorch's names and layouts.

Letters: b batch, t time, f frequency, c channels, d width. Maps are [b, t, f, c].
"""

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.lax import Precision

from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.state_dict import check_finite, read_state_dict

EPSILON = 1e-5  # of PyTorch's norms

Weights = Mapping[str, jax.Array]
Shapes = Mapping[str, tuple[int, ...]]


def read_weights(path: Path, what: str, shapes: Shapes, ignored: Sequence[str] = ()) -> Weights:
    """The tensors of a network, float32, by the names of its published file.

    Args:
      path: a file of torch or of safetensors, as `weights.state_dict` reads them.
      what: the network and its published file, for messages.
      shapes: shapes of all its tensors.
      ignored: patterns of names that may be there and are not needed.

    Raises:
      UserError: the file cannot be read, it is not of this network, or a tensor of the network
        holds numbers that are not finite.
    """
    tensors = read_state_dict(path)
    for name in tensors:
        if name not in shapes and not any(fnmatch.fnmatch(name, pattern) for pattern in ignored):
            raise UserError(f"{path}: unknown tensor '{name}'; this is no file of {what}")
    for name, shape in shapes.items():
        if name not in tensors:
            raise UserError(f"{path}: no tensor '{name}'; this is no file of {what}")
        found = tensors[name].shape
        if found != shape:
            raise UserError(
                f"{path}: tensor '{name}' has shape {found}, expected {shape}; this is no file of "
                f"{what}"
            )
        check_finite(f"{path}: '{name}'", tensors[name])
    return {name: jnp.asarray(tensors[name], jnp.float32) for name in shapes}


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
