"""The linear flow from noise to latents and its loss (REFERENCE section 5): pure functions.

Letters: b clips, t latent frames, c latent channels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Velocity = Callable[[jax.Array, jax.Array], jax.Array]

TIME_BINS = 5


def interpolate(noise: jax.Array, latent: jax.Array, t: jax.Array) -> jax.Array:
    """The point x_t = (1 - t) x_0 + t x_1 of the path. [b, t, c], [b, t, c], [b] -> [b, t, c]."""
    t = t[:, None, None]
    return (1 - t) * noise + t * latent


def loss(
    velocity: Velocity,
    noise: jax.Array,
    latent: jax.Array,
    t: jax.Array,
    frames: jax.Array | None = None,
) -> jax.Array:
    """Mean squared error of the velocity against x_1 - x_0, for each clip. -> float32 [b].

    The mean is over all frames, or over the first `frames` [b] of each clip.
    """
    predicted = velocity(interpolate(noise, latent, t), t)
    error = (predicted - (latent - noise)) ** 2
    if frames is None:
        return jnp.mean(error, axis=(1, 2))
    inside = jnp.arange(error.shape[1]) < frames[:, None]  # [b, t]
    return jnp.mean(error, axis=(1, 2), where=inside[..., None])


def loss_by_time(losses: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum and count of the losses [b] in `TIME_BINS` equal bins of flow time; both [TIME_BINS]."""
    bins = jnp.minimum((t * TIME_BINS).astype(jnp.int32), TIME_BINS - 1)
    member = jax.nn.one_hot(bins, TIME_BINS)  # [b, TIME_BINS]
    return losses @ member, jnp.sum(member, axis=0)
