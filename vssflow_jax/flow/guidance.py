"""Guidance: velocities with and without conditions, combined."""

import jax
import jax.numpy as jnp

from vssflow_jax.flow.path import Velocity
from vssflow_jax.models.conditions import Conditioning
from vssflow_jax.models.vssflow import VSSFlow

ALWAYS = (0.0, 1.0)


def guided(
    model: VSSFlow,
    conditioning: Conditioning,
    weight: float,
    interval: tuple[float, float] = ALWAYS,
) -> Velocity:
    """Classifier-free guidance v_u + w (v_c - v_u), both passes as one doubled batch.

    Each clip has two neighbouring rows, so that the doubled batch is sharded as the clips are.
    Outside `interval` of flow time the velocity is v_c, in one pass (Kynkaanniemi et al. 2024); all
    clips are at the same time then. So it is everywhere for a weight that is the number 1.
    """

    def with_unconditional(rows: jax.Array) -> jax.Array:
        both = jnp.stack([rows, jnp.zeros_like(rows)], axis=1)  # [b, 2, ...]
        return both.reshape(-1, *rows.shape[1:])

    frames, context, token = conditioning
    doubled = Conditioning(
        with_unconditional(frames), context, None if token is None else with_unconditional(token)
    )

    def inside(x: jax.Array, t: jax.Array) -> jax.Array:
        both = model(jnp.repeat(x, 2, axis=0), jnp.repeat(t, 2), doubled)  # [2 b, t, c]
        given, free = jnp.moveaxis(both.reshape(-1, 2, *x.shape[1:]), 1, 0)
        return free + weight * (given - free)

    def outside(x: jax.Array, t: jax.Array) -> jax.Array:
        return model(x, t, conditioning)

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        low, high = interval
        return jax.lax.cond((low <= t[0]) & (t[0] <= high), inside, outside, x, t)

    if isinstance(weight, float) and weight == 1.0:
        return outside
    return inside if interval == ALWAYS else velocity
