"""A checkpoint as it is restored onto 8, 4 and 1 of eight simulated devices:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.restored DATA WORKDIR OUT

OUT gets `<devices>.npz`: the leaves of the state, by their place in it.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests import tiny
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment

DEVICES = (8, 4, 1)
SMALLER: dict[str, Any] = {"model__transformer__layers": 1}


def main(data: Path, workdir: Path, out: Path) -> None:
    for count in DEVICES:
        experiment = Experiment.from_config(
            tiny.config(data, **SMALLER), devices=jax.devices()[:count]
        )
        with Checkpoints(workdir) as checkpoints:
            state, _ = checkpoints.restore(experiment.abstract_state)
        leaves = jax.tree.leaves(state)
        assert {len(leaf.sharding.device_set) for leaf in leaves} == {count}
        np.savez(out / f"{count}.npz", *map(np.asarray, leaves))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
