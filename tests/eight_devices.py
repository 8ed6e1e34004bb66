"""Three steps of a small model under each strategy, by a process that simulates eight devices:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.eight_devices OUT

OUT gets `<strategy>.npz` and, of a mesh of one device, `alone.npz`: the loss of each step, the
optimizer's mean of the gradients after the last, by the names of the weights, and generated clips.
`<name>-qk_norm.npz` are of a network that norms queries and keys.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from tests import tiny
from vssflow_jax.flow.sampler import Sampler
from vssflow_jax.generate.sampler import draw_start, make_generate
from vssflow_jax.parallel.sharding import STRATEGIES
from vssflow_jax.run.experiment import Experiment, TrainState
from vssflow_jax.train.step import jit_train_step
from vssflow_jax.weights.mapping import flatten

STEPS = 3
NORMED = "fsdp_tp-qk_norm"
CLIPS = 3  # to be generated: not as many as divide over the devices
CHANGES = {
    "clip__duration_sec": 0.56,  # 14 frames
    "model__transformer__heads": 8,
    "model__transformer__kv_heads": 4,
    "model__transformer__head_dim": 8,
    "model__transformer__token_multiple": 4,
    "eval__sampler__steps": 1,
    "train__learning_rate": 1e-4,
}


def small_config(strategy: str, **changes: Any) -> ml_collections.ConfigDict:
    """A config whose model divides over every mesh here."""
    config = tiny.config(Path("unused"), **CHANGES, **changes)
    config.sharding = tiny.sharding_config(strategy)
    return config


def train(
    config: ml_collections.ConfigDict, devices: list[jax.Device], steps: int
) -> tuple[Experiment, TrainState, Any, np.ndarray]:
    """Some steps on random batches: the state then, the last batch, and all losses."""
    experiment = Experiment.from_config(config, devices=devices)
    codec = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), experiment.codec.abstract)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, experiment.abstract_state)
    state = jax.jit(experiment.init, out_shardings=shardings)(codec)
    step = jit_train_step(experiment)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(steps):
        batch = {
            name: rng.integers(0, 71, leaf.shape, np.int32)
            if leaf.dtype == np.int32
            else rng.standard_normal(leaf.shape, np.float32)
            for name, leaf in experiment.abstract_batch(config.train.batch_size).items()
        }
        state, metrics = step(state, batch)
        losses.append(metrics["loss"])
    return experiment, state, batch, np.array(losses)


def run(config: ml_collections.ConfigDict, devices: list[jax.Device]) -> dict[str, np.ndarray]:
    """Losses and gradients of some steps, and what is generated then."""
    experiment, state, batch, losses = train(config, devices, STEPS)
    adam = state.opt_state[1][0]
    clips = [f"clip-{index}" for index in range(CLIPS)]
    features = jax.tree.map(lambda x: x[:CLIPS], batch)
    generate = make_generate(experiment, Sampler.from_config(config.eval.sampler))
    return {
        "loss": losses,
        "generated": np.asarray(
            generate(state.averaged, features, draw_start(experiment, 0, clips))
        ),
        **jax.tree.map(np.asarray, flatten(adam.mu)),
    }


def main(out: Path) -> None:
    np.savez(out / "alone.npz", **run(small_config("dp"), jax.devices()[:1]))
    for strategy in STRATEGIES:
        np.savez(out / f"{strategy}.npz", **run(small_config(strategy), jax.devices()))
    normed = {"model__transformer__qk_norm": True}
    np.savez(out / "alone-qk_norm.npz", **run(small_config("dp", **normed), jax.devices()[:1]))
    np.savez(out / f"{NORMED}.npz", **run(small_config("fsdp_tp", **normed), jax.devices()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
