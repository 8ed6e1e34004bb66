"""Seconds of one demo train step, blocks in a loop against blocks laid out one after the other.

python benchmarks/train_step.py
"""

import statistics
import time
from collections.abc import Callable

import jax
import ml_collections
import numpy as np

from configs import demo
from vssflow_jax.plan.programs import random_batch
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.train.step import make_train_step

ROUNDS = 12


def main() -> None:
    config = demo.get_config()
    layers = config.model.transformer.layers
    timers = {unroll: step_timer(config, unroll) for unroll in (1, layers)}
    seconds: dict[int, list[float]] = {unroll: [] for unroll in timers}
    for _ in range(ROUNDS):  # turn by turn, so that a noisy machine is noisy for both
        for unroll, timer in timers.items():
            seconds[unroll].append(timer())
    loop, laid_out = (statistics.median(values) for values in seconds.values())
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, median of {ROUNDS}")
    print(f"loop {loop:.3f} s, laid out {laid_out:.3f} s, ratio {loop / laid_out:.2f}")


def step_timer(config: ml_collections.ConfigDict, unroll: int) -> Callable[[], float]:
    """A function that runs one step and returns its seconds."""
    config = config.copy_and_resolve_references()
    config.model.transformer.unroll = unroll
    experiment = Experiment.from_config(config)
    state = experiment.init(
        jax.tree.map(lambda leaf: np.ones(leaf.shape), experiment.codec.abstract)
    )
    batch = random_batch(experiment.abstract_batch(config.train.batch_size))
    step = jax.jit(make_train_step(experiment), donate_argnums=0)
    state, _ = jax.block_until_ready(step(state, batch))

    def timer() -> float:
        nonlocal state
        started = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        return time.perf_counter() - started

    return timer


if __name__ == "__main__":
    main()
