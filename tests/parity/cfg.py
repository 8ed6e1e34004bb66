"""Guidance and solvers against `cfg_small.npz`, with the weights of `vaflow_small.npz`."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from tests.parity import flow, trunk
from tests.parity.golden import ADAPTIVE, ADAPTIVE_TIMES, FORWARD, SAMPLE, Golden, Row
from vssflow_jax.flow import solvers
from vssflow_jax.flow.guidance import guided
from vssflow_jax.flow.path import Velocity

GUIDANCE = 3.0
STEPS = 10
TOLERANCE = 1e-5
OVERSHOOT = 2.0  # The reference steps past t = 1 and interpolates back.
METHODS = {
    "euler": "euler",
    "midpoint": "midpoint",
    "heun2": "heun",
    "heun3": "heun3",
    "rk4": "rk4",
}


def check(golden: Golden) -> Iterator[Row]:
    """A row for the start, guided velocities, each solver's sample and the times it looks at."""
    trained = golden.sibling("vaflow_small")
    weights = trained.below("w/")
    cfg = flow.config_of(trained, weights)
    model = flow.load(cfg, weights)
    features = flow.resampled(golden)
    conditioning = model.encode(features)
    beside = flow.condition_channels(flow.projected(model, features))
    noise = jnp.swapaxes(golden["in/x0_noise"], 1, 2)
    start = flow.with_conditions(noise, beside)
    yield golden.row("out/cross_attn_cond", conditioning.context, FORWARD)
    yield golden.row("out/x_init", start, FORWARD)

    probe = jnp.swapaxes(golden["in/x_probe"], 1, 2)
    yield golden.row("out/x_probe_full", flow.with_conditions(probe, beside), FORWARD)
    times = golden["in/t_probe"]
    for key, index, weight in (
        *((f"out/v_guided_{i}", i, GUIDANCE) for i in range(len(times))),
        ("out/v_w1_1", 1, 1.0),
    ):
        velocity = jax.jit(guided(model, conditioning, weight))
        found = velocity(probe, jnp.full(len(probe), times[index]))
        # The reference holds the conditions still.
        yield golden.row(key, flow.with_conditions(found, 0 * beside), FORWARD)
    # Unguided, it lets them drift; with us they are no part of what moves.
    wide = trunk.load(weights, cfg.transformer, int(trained["cfg/in_channels"]))
    nothing = flow.with_conditions(probe, 0 * beside)
    free = wide(nothing, jnp.full(len(probe), times[1]), 0 * conditioning.context)
    yield golden.row("out/v_w0_1", free, FORWARD)

    velocity = guided(model, conditioning, GUIDANCE)
    for key, method in METHODS.items():
        asked: list[float] = []
        solve = solvers.make_solver(method, STEPS, TOLERANCE)
        sample = jax.jit(lambda x, solve=solve, asked=asked: solve(noting(velocity, asked), x))(
            noise
        )
        yield golden.row(f"out/sample_{key}", flow.with_conditions(sample, beside), SAMPLE)
        yield golden.row(f"out/times_{key}", asked, SAMPLE)

    channels = noise.shape[-1]
    sample = jax.jit(lambda x: dopri5(velocity, x, channels))(start)
    yield golden.row("out/sample_dopri5", sample, ADAPTIVE)
    count = len(golden["out/times_dopri5"])
    times = adaptive_times(velocity, start, channels, count)
    yield golden.row("out/times_dopri5", times, ADAPTIVE_TIMES)


def noting(velocity: Velocity, asked: list[float]) -> Velocity:
    """The velocity, which also appends the times that it is asked for."""

    def noted(x: jax.Array, t: jax.Array) -> jax.Array:
        jax.debug.callback(lambda t: asked.append(float(t[0])), t, ordered=True)
        return velocity(x, t)

    return noted


def dopri5(velocity: Velocity, start: jax.Array, channels: int, end: float = 1.0) -> jax.Array:
    """The adaptive method on a state [b, C, t] that carries the conditions too.

    They do not move, so that the reference's tolerance is looser than it says: with ours its own
    sample is off by more than two implementations of it.
    """

    def carrying(x: jax.Array, t: jax.Array) -> jax.Array:
        moving = velocity(jnp.swapaxes(x[:, :channels], 1, 2), t)
        return flow.with_conditions(moving, jnp.zeros_like(x[:, channels:]))

    return solvers.dopri5(carrying, start, tolerance=TOLERANCE, end=end)


def adaptive_times(velocity: Velocity, start: jax.Array, channels: int, count: int) -> list[float]:
    """Where dopri5 looks first, `count` times.

    It looks at t = 0 more often than the reference, which does so once; the reference ends with the
    first step past t = 1.
    """
    asked: list[float] = []
    noted = noting(velocity, asked)
    jax.jit(lambda x: dopri5(noted, x, channels, end=OVERSHOOT))(start).block_until_ready()
    jax.effects_barrier()
    return [asked[0], *(t for t in asked[1:] if t > 0)][:count]
