"""Solvers against equations that can be solved by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssflow_jax.flow.solvers import ADAPTIVE, TABLEAUS, dopri5, make_solver
from vssflow_jax.utils.errors import UserError

START = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.float32)
STEPS = [1, 2, 7, 25]


def solve(method: str, velocity, steps: int) -> jax.Array:
    solver = make_solver(method, steps, tolerance=1e-5)
    return jax.jit(functools.partial(solver, velocity))(START)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rate", [-1.5, 0.5])
def test_growth(steps: int, rate: float):
    # dx/dt = a x: each step multiplies by the first terms of the series of exp(a / n).
    z = rate / steps
    series = {
        "euler": 1 + z,
        "midpoint": 1 + z + z**2 / 2,
        "heun": 1 + z + z**2 / 2,
        "heun3": 1 + z + z**2 / 2 + z**3 / 6,
        "rk4": 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24,
    }
    assert set(series) == set(TABLEAUS)
    for method, factor in series.items():
        grown = solve(method, lambda x, t: rate * x, steps)
        np.testing.assert_allclose(grown, START * factor**steps, rtol=1e-5, err_msg=method)


@pytest.mark.parametrize("steps", STEPS)
def test_a_velocity_of_time_alone_is_summed_up(steps: int):
    # dx/dt = 3 t^2: quadrature rules, whose errors on a cube's derivative are known.
    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.broadcast_to(3 * t[:, None, None] ** 2, x.shape)

    sums = {
        "euler": (steps - 1) * (2 * steps - 1) / (2 * steps**2),
        "midpoint": 1 - 1 / (4 * steps**2),
        "heun": 1 + 1 / (2 * steps**2),
        "heun3": 1.0,
        "rk4": 1.0,
    }
    for method, expected in sums.items():
        found = solve(method, velocity, steps)
        np.testing.assert_allclose(found, START + expected, atol=1e-5, err_msg=method)


def growing(x: jax.Array, t: jax.Array) -> jax.Array:
    """dx/dt = 2 t x, which ends at e x."""
    return 2 * t[:, None, None] * x


@pytest.mark.parametrize(
    ("method", "order", "steps"),
    [
        ("euler", 1, (8, 16, 32)),
        ("midpoint", 2, (8, 16, 32)),
        ("heun", 2, (8, 16, 32)),
        ("heun3", 3, (4, 8, 16)),  # float32 hides the error of more steps, and of rk4
    ],
)
def test_order_of_convergence(method: str, order: int, steps: tuple[int, ...]):
    exact = START * np.e
    errors = [np.abs(solve(method, growing, n) - exact).max() for n in steps]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, order, atol=0.5)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_the_adaptive_method_keeps_to_its_tolerance(tolerance: float):
    found = jax.jit(functools.partial(dopri5, growing, tolerance=tolerance))(START)
    error = np.abs(found / (START * np.e) - 1).max()
    assert error < 10 * tolerance


@pytest.mark.parametrize("method", [*TABLEAUS, ADAPTIVE])
@pytest.mark.parametrize("steps", STEPS)
def test_straight_paths_end_exactly_at_the_latent(method: str, steps: int):
    latent = jnp.ones_like(START)
    found = solve(method, lambda x, t: latent - START, steps)
    np.testing.assert_allclose(found, latent, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "times"),
    [
        ("euler", [0, 0.25, 0.5, 0.75]),
        ("midpoint", [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]),
        ("heun", [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_the_velocity_is_asked_at_the_grid_and_never_past_the_end(method: str, times: list[float]):
    asked = set()

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        assert t.shape == x.shape[:1]
        jax.debug.callback(lambda t: asked.update(t.tolist()), t)
        return x

    solve(method, velocity, 4).block_until_ready()
    jax.effects_barrier()
    assert sorted(asked) == times


def test_an_unknown_method_is_one_clear_line():
    with pytest.raises(
        UserError, match=r"sampler\.method is 'rk5'; choose one of: euler, midpoint"
    ):
        make_solver("rk5", 10, 1e-5)
