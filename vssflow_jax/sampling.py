"""Fixed-step solvers of the flow from noise (t = 0) to a latent (t = 1) (REFERENCE section 7).

They know nothing of the model: a velocity is any function of (x, t).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vssflow_jax.flow import Velocity

Solver = Callable[[Velocity, jax.Array, int], jax.Array]


def euler(velocity: Velocity, x: jax.Array, steps: int) -> jax.Array:
    """Euler's method: one evaluation a step. x is [b, t, c], the velocity's time is [b]."""

    def step(i: jax.Array, x: jax.Array) -> jax.Array:
        return x + velocity(x, _times(i, steps, x)) / steps

    return jax.lax.fori_loop(0, steps, step, x)


def heun(velocity: Velocity, x: jax.Array, steps: int) -> jax.Array:
    """Heun's second-order method (explicit trapezoid): two evaluations a step."""

    def step(i: jax.Array, x: jax.Array) -> jax.Array:
        here = velocity(x, _times(i, steps, x))
        there = velocity(x + here / steps, _times(i + 1, steps, x))
        return x + (here + there) / (2 * steps)

    return jax.lax.fori_loop(0, steps, step, x)


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun}


def _times(i: jax.Array | int, steps: int, x: jax.Array) -> jax.Array:
    return jnp.full(x.shape[0], i / steps)
