"""A step run on devices that are there: seconds, loss, and the memory that was in use."""

import dataclasses
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vssflow_jax.features.phonemes import NUM_IDS
from vssflow_jax.plan.programs import Program
from vssflow_jax.train.step import jit_train_step

STEPS = 3


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a few steps showed.

    Attributes:
      step_sec: median of the steps after the first.
      loss: loss of the last step.
      peak_bytes: most that was in use on a device, if it says so.
      limit_bytes: memory that a device may use, if it says so.
    """

    step_sec: float
    loss: float
    peak_bytes: int | None
    limit_bytes: int | None


def measure_step(program: Program) -> Measured:
    """Run a step on random clips: once to compile, then `STEPS` times."""
    experiment = program.experiment
    batch = random_batch(program.abstract_batch())
    init = jax.jit(experiment.init, out_shardings=program.experiment.state_shardings)
    state = init(
        jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), experiment.codec.abstract)
    )
    step = jit_train_step(experiment)
    state, metrics = jax.block_until_ready(step(state, batch))
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state, batch))
        seconds.append(time.perf_counter() - started)
    memory = jax.local_devices()[0].memory_stats() or {}
    return Measured(
        step_sec=statistics.median(seconds),
        loss=float(metrics["loss"]),
        peak_bytes=memory.get("peak_bytes_in_use"),
        limit_bytes=memory.get("bytes_limit"),
    )


def random_batch(abstract: dict[str, Any]) -> dict[str, jax.Array]:
    """Noise in the shapes and places of an abstract batch; integers are ids of phonemes."""
    rng = np.random.default_rng(0)
    return {
        name: jax.device_put(
            rng.integers(0, NUM_IDS, leaf.shape, leaf.dtype)
            if jnp.issubdtype(leaf.dtype, jnp.integer)
            else rng.standard_normal(leaf.shape, np.float32).astype(leaf.dtype),
            leaf.sharding,
        )
        for name, leaf in abstract.items()
    }
