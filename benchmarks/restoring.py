"""What restoring reads and holds: the whole state against what is used of it, and a start from it.

python -m benchmarks.restoring --workdir=/tmp/restoring

Makes a run of random weights, whose checkpoint has some 200 MB, and restores it in processes of
their own: bytes by `/proc/self/io`, seconds, and how far the peak of memory rises meanwhile.
"""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from configs import demo
from vssflow_jax.run import initial, run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.run.restore import restore

_WORKDIR = flags.DEFINE_string("workdir", None, "folder to write into", required=True)
_CHILD = flags.DEFINE_string("child", "", "what to measure in this process")
_STEP = 7


def _config() -> Any:
    config = demo.get_config()
    config.model.transformer.update({"layers": 8, "heads": 8, "head_dim": 48})
    return config


def _make(run: Path) -> None:
    experiment = Experiment.from_config(_config())
    codec = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), experiment.codec.abstract)
    state = jax.jit(experiment.init, out_shardings=experiment.state_shardings)(codec)
    rng = np.random.default_rng(0)
    # As after training: moments of zeros would be packed to nothing.
    moments = jax.tree.map(
        lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), state.opt_state
    )
    state = dataclasses.replace(state, opt_state=moments)
    resolved = run_config.write(run, _config())
    with Checkpoints(run, keep=1) as checkpoints:
        checkpoints.save(_STEP, state, {}, resolved)


def _whole(experiment: Experiment, run: Path) -> Any:
    with Checkpoints(run) as checkpoints:
        return checkpoints.restore(experiment.abstract_state)


def _start(experiment: Experiment, run: Path) -> Any:
    experiment.train.init_from = str(run)
    return initial.initial_state(experiment)


def _start_twice(experiment: Experiment, run: Path) -> Any:
    """As it was: what is read stays until the state, a copy, is there."""
    jit = jax.jit

    def without_donation(*arguments: Any, donate_argnums: Any = (), **options: Any) -> Any:
        return jit(*arguments, **options)

    initial.jax.jit = without_donation
    return _start(experiment, run)


_MEASURED = {
    "whole state": _whole,
    "what is used": restore,
    "start, weights copied": _start_twice,
    "start, weights kept": _start,
}


def _counter(file: str, name: str) -> int:
    lines = Path(f"/proc/self/{file}").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1])


def _measure(what: str, run: Path) -> dict[str, float]:
    experiment = Experiment.from_config(_config())
    _ = experiment.abstract_state
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before, held = _counter("io", "rchar"), _counter("status", "VmRSS")
    started = time.monotonic()
    jax.block_until_ready(_MEASURED[what](experiment, run))
    return {
        "seconds": time.monotonic() - started,
        "read_mb": (_counter("io", "rchar") - before) / 1e6,
        "peak_mb": 1024 * (_counter("status", "VmHWM") - held) / 1e6,
    }


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    run = Path(_WORKDIR.value)
    if _CHILD.value:
        print(json.dumps(_measure(_CHILD.value, run)))
        return
    if not run_config.exists(run):
        _make(run)
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    print(f"checkpoint: {size / 1e6:.0f} MB")
    for what in [*_MEASURED, *_MEASURED]:
        child = [sys.executable, "-m", "benchmarks.restoring", f"--workdir={run}"]
        done = subprocess.run(
            [*child, f"--child={what}"], check=True, stdout=subprocess.PIPE, text=True
        )
        row = json.loads(done.stdout)
        print(f"{what}: " + ", ".join(f"{name} {value:.1f}" for name, value in row.items()))


if __name__ == "__main__":
    app.run(main)
