"""Fixed-step solvers of the flow from noise (t = 0) to a latent (t = 1), and guidance.

Solvers know nothing of the model: a velocity is any function of (x, t). REFERENCE section 7.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vssflow_jax.conditions import Conditioning
from vssflow_jax.flow import Velocity
from vssflow_jax.model import VSSFlow

Solver = Callable[[Velocity, jax.Array, int], jax.Array]


def euler(velocity: Velocity, x: jax.Array, steps: int) -> jax.Array:
    """Euler's method: one evaluation a step. x is [b, t, c], the velocity's time is [b]."""

    def step(i: int, x: jax.Array) -> jax.Array:
        return x + velocity(x, _times(i, steps, x)) / steps

    return jax.lax.fori_loop(0, steps, step, x)


def heun(velocity: Velocity, x: jax.Array, steps: int) -> jax.Array:
    """Heun's second-order method (explicit trapezoid): two evaluations a step."""

    def step(i: int, x: jax.Array) -> jax.Array:
        here = velocity(x, _times(i, steps, x))
        there = velocity(x + here / steps, _times(i + 1, steps, x))
        return x + (here + there) / (2 * steps)

    return jax.lax.fori_loop(0, steps, step, x)


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun}


def guided(model: VSSFlow, conditioning: Conditioning, weight: float) -> Velocity:
    """Classifier-free guidance v_u + w (v_c - v_u), both passes as one doubled batch.

    Each clip has two neighbouring rows, so that the doubled batch is sharded as the clips are.
    """
    unconditional = jnp.zeros_like(conditioning.frames)
    frames = jnp.stack([conditioning.frames, unconditional], axis=1)  # [b, 2, t, d]
    doubled = Conditioning(frames.reshape(-1, *frames.shape[2:]), conditioning.context)

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        both = model(jnp.repeat(x, 2, axis=0), jnp.repeat(t, 2), doubled)  # [2 b, t, c]
        given, free = jnp.moveaxis(both.reshape(-1, 2, *x.shape[1:]), 1, 0)
        return free + weight * (given - free)

    return velocity


def _times(i: int, steps: int, x: jax.Array) -> jax.Array:
    return jnp.full(x.shape[0], i / steps)
