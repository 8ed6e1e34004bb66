"""Solvers against equations that can be solved by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssflow_jax.sampling import SOLVERS, euler, heun

START = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.float32)
STEPS = [1, 2, 7, 25]


def solve(solver, velocity, steps: int) -> jax.Array:
    return jax.jit(functools.partial(solver, velocity, steps=steps))(START)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rate", [-1.5, 0.5])
def test_growth(steps: int, rate: float):
    # dx/dt = a x: each step multiplies by the first terms of the series of exp(a / n).
    z = rate / steps
    grown = solve(euler, lambda x, t: rate * x, steps)
    np.testing.assert_allclose(grown, START * (1 + z) ** steps, rtol=1e-5)
    grown = solve(heun, lambda x, t: rate * x, steps)
    np.testing.assert_allclose(grown, START * (1 + z + z**2 / 2) ** steps, rtol=1e-5)


@pytest.mark.parametrize("steps", STEPS)
def test_a_velocity_of_time_alone_is_summed_up(steps: int):
    # dx/dt = 3 t^2: Euler is the left Riemann sum, Heun the trapezoid rule.
    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.broadcast_to(3 * t[:, None, None] ** 2, x.shape)

    left = (steps - 1) * (2 * steps - 1) / (2 * steps**2)
    np.testing.assert_allclose(solve(euler, velocity, steps), START + left, atol=1e-5)
    trapezoid = 1 + 1 / (2 * steps**2)
    np.testing.assert_allclose(solve(heun, velocity, steps), START + trapezoid, atol=1e-5)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence(method: str, order: int):
    # dx/dt = cos(2 t) x ends at x exp(sin(2) / 2).
    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.cos(2 * t)[:, None, None] * x

    exact = START * np.exp(np.sin(2) / 2)
    errors = [np.abs(solve(SOLVERS[method], velocity, n) - exact).max() for n in (8, 16, 32)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, order, atol=0.25)


@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("steps", STEPS)
def test_straight_paths_end_exactly_at_the_latent(method: str, steps: int):
    latent = jnp.ones_like(START)
    found = solve(SOLVERS[method], lambda x, t: latent - START, steps)
    np.testing.assert_allclose(found, latent, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "times"), [("euler", [0, 0.25, 0.5, 0.75]), ("heun", [0, 0.25, 0.5, 0.75, 1])]
)
def test_the_velocity_is_asked_at_the_grid_and_never_past_the_end(method: str, times: list[float]):
    asked = set()

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        assert t.shape == x.shape[:1]
        jax.debug.callback(lambda t: asked.update(t.tolist()), t)
        return x

    solve(SOLVERS[method], velocity, 4).block_until_ready()
    jax.effects_barrier()
    assert sorted(asked) == times
