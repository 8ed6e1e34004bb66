"""Seconds of a training step of the base model's blocks on CPUs, beside PyTorch's:

python -m benchmarks.cpu_step [--clips=2] [--layers=4] [--rounds=3]

Float32, AdamW, offline latents: the blocks of `benchmarks.accelerator.in_torch`, eager, with as
many threads as there are cores. Turn by turn in one run; the last line is `ratio R`, our median
over theirs.
"""

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch

from benchmarks.accelerator.in_torch import make_stack
from benchmarks.accelerator.sizes import FULL, make_experiment
from benchmarks.accelerator.training import LEARNING_RATE, blocks_step
from vssflow_jax.models.transformer import TransformerConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    experiment = make_experiment(FULL, "base", given.clips, dtype="float32")
    cfg = dataclasses.replace(
        experiment.model.transformer, layers=given.layers, unroll=given.layers
    )
    frames = experiment.spec.latent_frames
    whole = experiment.mesh_rules.replicated
    _, ours = blocks_step(cfg, frames, given.clips, jnp.dtype("float32"), whole)
    steps: dict[str, Callable[[], Any]] = {
        f"jax {jax.__version__}": lambda: jax.block_until_ready(ours()),
        f"torch {torch.__version__}": in_torch(cfg, given.clips, frames),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(given.rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    mine, theirs = (statistics.median(values) for values in seconds.values())
    print(f"{given.layers} blocks of base, {given.clips} clips, {os.cpu_count()} cores, float32")
    for name, values in seconds.items():
        print(
            f"{name}: {statistics.median(values):.2f} s, of {min(values):.2f} to {max(values):.2f}"
        )
    print(f"ratio {mine / theirs:.3f}")


def in_torch(cfg: TransformerConfig, clips: int, frames: int) -> Callable[[], None]:
    """A function that runs one step of PyTorch's."""
    stack = make_stack(cfg, 1 + frames)
    optimizer = torch.optim.AdamW(stack.parameters(), lr=LEARNING_RATE, fused=True)
    x, target = torch.randn(2, clips, frames, cfg.width)
    context = torch.randn(clips, 1 + frames, cfg.context_width)
    t = torch.rand(clips)

    def call() -> None:
        loss = torch.nn.functional.mse_loss(stack(x, t, context), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.isfinite(loss)

    return call


if __name__ == "__main__":
    main()
