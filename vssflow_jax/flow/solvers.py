"""Solvers of the flow from noise (t = 0) to a latent (t = 1) (REFERENCE section 7).

They know nothing of the model: a velocity is any function of (x, t). Fixed-step methods are rows of
a table of Runge-Kutta coefficients; the adaptive one comes from diffrax.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vssflow_jax.flow.path import Velocity
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

Solver = Callable[[Velocity, jax.Array], jax.Array]

ADAPTIVE = "dopri5"
MAX_ADAPTIVE_STEPS = 10_000


@dataclasses.dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method (Butcher 1963).

    Attributes:
      stages: for each evaluation after the first, what it adds of the velocities before it.
      weights: weights of all velocities in the step.
    """

    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


TABLEAUS = {
    "euler": Tableau((), (1.0,)),
    "midpoint": Tableau(((1 / 2,),), (0.0, 1.0)),
    "heun": Tableau(((1.0,),), (1 / 2, 1 / 2)),
    "heun3": Tableau(((1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4)),
    # The 3/8 rule, which is what torchdiffeq calls rk4.
    "rk4": Tableau(((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
}


def make_solver(method: str, steps: int, tolerance: float) -> Solver:
    """The solver that a config asks for.

    Args:
      method: one of `TABLEAUS`, or `ADAPTIVE`.
      steps: steps of a fixed-step method.
      tolerance: absolute and relative, of the adaptive method.

    Raises:
      UserError: an unknown method, or the adaptive one without its package.
    """
    if method == ADAPTIVE:
        require("diffrax", "ode")
        return functools.partial(dopri5, tolerance=tolerance)
    if method not in TABLEAUS:
        raise UserError(
            f"sampler.method is '{method}'; choose one of: {', '.join(TABLEAUS)}, {ADAPTIVE}"
        )
    return functools.partial(fixed_step, tableau=TABLEAUS[method], steps=steps)


def fixed_step(velocity: Velocity, x: jax.Array, *, tableau: Tableau, steps: int) -> jax.Array:
    """`steps` equal steps of a Runge-Kutta method. x is [b, t, c], the velocity's time is [b]."""

    def combine(weights: tuple[float, ...], velocities: list[jax.Array]) -> jax.Array:
        used = [w * v for w, v in zip(weights, velocities, strict=True) if w]
        return sum(used[1:], used[0]) / steps

    def step(i: jax.Array, x: jax.Array) -> jax.Array:
        velocities = [velocity(x, _times(i / steps, x))]
        for row in tableau.stages:
            inner = x + combine(row, velocities)
            velocities.append(velocity(inner, _times((i + sum(row)) / steps, x)))
        return x + combine(tableau.weights, velocities)

    return jax.lax.fori_loop(0, steps, step, x)


def dopri5(velocity: Velocity, x: jax.Array, *, tolerance: float, end: float = 1.0) -> jax.Array:
    """Dormand and Prince's adaptive method of order 5, to time `end`.

    The step is chosen by the error of all of x together, so the clips of a batch depend on each
    other: give it one clip, or map over clips, where that matters.
    """
    diffrax = require("diffrax", "ode")
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, x, _: velocity(x, _times(t, x))),
        diffrax.Dopri5(),
        t0=0.0,
        t1=end,
        dt0=_first_step(velocity, x, tolerance),
        y0=x,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        max_steps=MAX_ADAPTIVE_STEPS,
    )
    return solution.ys[0]


def _first_step(velocity: Velocity, x: jax.Array, tolerance: float) -> jax.Array:
    """A step to start with (Hairer, Norsett and Wanner, Solving ODEs I, section II.4).

    diffrax would do the same, but takes 0.01 whenever its terms are wrapped, which they always are.
    The numbers are the book's: an Euler step that changes x by 1 % tells how the velocity turns,
    and the step is the one whose error of order 5 is 0.01, or 100 probes if that is less.
    """

    def size(v: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.mean((v / (tolerance * (1 + jnp.abs(x)))) ** 2))

    here = velocity(x, _times(0.0, x))
    d0, d1 = size(x), size(here)
    probe = jnp.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1)
    there = velocity(x + probe * here, _times(probe, x))
    steepest = jnp.maximum(d1, size(there - here) / probe)
    by_order = (0.01 / jnp.maximum(steepest, 1e-15)) ** (1 / 5)
    return jnp.minimum(100 * probe, by_order)


def _times(t: jax.Array | float, x: jax.Array) -> jax.Array:
    return jnp.full(x.shape[0], t, jnp.float32)
