"""Some steps of a small model by each optimizer, on one device and, by FSDP, on eight simulated:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.eight_optimizers OUT [STEPS]

OUT gets `<optimizer>.npz`: `alone` and `eight`, the losses of all steps; `planned` and `held`, the
bytes of the optimizer's state on the first of eight devices as planned and as they are.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests import eight_devices
from vssflow_jax.plan.memory import device_bytes
from vssflow_jax.run.optimizer import AVERAGING, OPTIMIZERS

STEPS = 5


def held(tree: Any, device: jax.Device) -> int:
    """Bytes of the parts of arrays that lie on a device."""
    shards = [shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == device)


def run(optimizer: str, steps: int) -> dict[str, Any]:
    changes: dict[str, Any] = {"train__optimizer": optimizer}
    if optimizer in AVERAGING:
        changes |= {"train__ema_decay": 0.0, "train__schedule": "constant"}
    config = eight_devices.small_config("fsdp", **changes)
    _, _, _, alone = eight_devices.train(config, jax.devices()[:1], steps)
    experiment, state, _, eight = eight_devices.train(config, jax.devices(), steps)
    return {
        "alone": alone,
        "eight": eight,
        "planned": device_bytes(experiment.abstract_state.opt_state),
        "held": held(state.opt_state, jax.devices()[0]),
    }


def main(out: Path, steps: int = STEPS) -> None:
    for optimizer in OPTIMIZERS:
        np.savez(out / f"{optimizer}.npz", **run(optimizer, steps))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
