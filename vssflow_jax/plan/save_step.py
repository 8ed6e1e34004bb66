"""The train steps of a config in a file, compiled for devices that need not be here."""

from collections.abc import Sequence
from pathlib import Path

import ml_collections

from vssflow_jax.config import check as check_config
from vssflow_jax.plan.programs import changed
from vssflow_jax.plan.topologies import Topology
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.run.run_config import with_schedule_end
from vssflow_jax.train import saved_steps
from vssflow_jax.utils.errors import UserError


def save_step(
    config: ml_collections.ConfigDict,
    topology: Topology,
    strategies: Sequence[str],
    clips_per_device: int | None,
    path: Path,
) -> None:
    """Compile the steps with the compiler's full effort, as training does, and write the file.

    Args:
      config: config of the run; its own batch size counts.
      topology: topology to compile for.
      strategies: the one strategy; the config's own, if there is none.
      clips_per_device: what --clips_per_device says, if it was given.
      path: the file.

    Raises:
      UserError: several strategies, clips that make up another batch than the config's, a bad
        config, or one that does not go with the devices.
    """
    if len(strategies) > 1:
        raise UserError(
            f"--save_step is of one strategy, and --strategies names {len(strategies)}: "
            f"{', '.join(strategies)}; give one, that of the run"
        )
    if strategies:
        config = changed(config, sharding__strategy=strategies[0])
    check_config(config)
    config = with_schedule_end(config)
    topology.prepare()
    devices = topology.devices()
    if clips_per_device and clips_per_device * len(devices) != config.train.batch_size:
        raise UserError(
            f"--clips_per_device is {clips_per_device}, which on {len(devices)} devices makes a "
            f"batch of {clips_per_device * len(devices)}, but train.batch_size is "
            f"{config.train.batch_size}, which is what --save_step takes; leave out the flag"
        )
    experiment = Experiment.from_config(config, devices=devices)
    experiment.check_batch()
    path.parent.mkdir(parents=True, exist_ok=True)
    saved_steps.write(path, config, experiment)
