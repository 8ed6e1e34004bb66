"""A run small enough for tests: the demo's config with few, narrow layers, and ways to start it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from configs import demo
from vssflow_jax.train import loop, setup

ROOT = Path(__file__).parent.parent
NUM_TRAIN = 16
NUM_TEST = 6
EIGHT_DEVICES = {
    "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
}

OVERRIDES: dict[str, Any] = {
    "data.num_train": NUM_TRAIN,
    "data.num_test": NUM_TEST,
    "model.transformer.layers": 2,
    "model.transformer.heads": 2,
    "model.transformer.head_dim": 32,
    "model.transformer.unroll": 1,
    "train.steps": 5,
    "train.decay_steps": 40,
    "train.batch_size": 8,
    "train.warmup_steps": 2,
    "train.log_every": 1,
    "train.checkpoint_every": 1000,
    "train.sample_every": 1000,
    "eval.after_training": False,
    "eval.sampler.steps": 2,
    "eval.batch_size": 4,
}


def config(data: Path, **changes: Any) -> ml_collections.ConfigDict:
    """The tiny config on the dataset in `data`; `changes` name fields with `__` for the dot."""
    result = demo.get_config()
    overrides = OVERRIDES | {name.replace("__", "."): value for name, value in changes.items()}
    result.update_from_flattened_dict({**overrides, "data.path": str(data)})
    return result


def train(config: ml_collections.ConfigDict, workdir: Path, *evaluators: loop.Evaluator) -> bool:
    """Train as the command does."""
    return loop.train(setup.prepare(config, workdir), workdir, evaluators)


def sharding_config(strategy: str, **mesh: int) -> ml_collections.ConfigDict:
    """The `sharding` section of a config; the axes of the mesh not given are the strategy's."""
    section = demo.get_config().sharding
    section.strategy = strategy
    section.mesh.update(mesh)
    return section


def command(script: str, data: Path, workdir: Path, **changes: Any) -> list[str]:
    """The command line of an entry point with the same config."""
    overrides = OVERRIDES | {name.replace("__", "."): value for name, value in changes.items()}
    return [
        sys.executable,
        str(ROOT / script),
        f"--config={ROOT / 'configs' / 'demo.py'}",
        f"--workdir={workdir}",
        f"--config.data.path={data}",
        *(f"--config.{name}={value}" for name, value in overrides.items()),
    ]


def run(
    arguments: list[str],
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    timeout_sec: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run a command, from the root of the repository by default, and keep what it prints."""
    return subprocess.run(
        arguments,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_sec,
        check=False,
    )
