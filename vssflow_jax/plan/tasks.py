"""The parts of a plan: each works on one strategy alone, in a process of its own."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from vssflow_jax.models.flops import step_flops
from vssflow_jax.parallel import chips, slices
from vssflow_jax.plan.counting import count_step
from vssflow_jax.plan.memory import largest_batch, measure_memory
from vssflow_jax.plan.programs import Program, TooLarge, changed, random_batch
from vssflow_jax.plan.schedule import follow
from vssflow_jax.plan.topologies import Topology
from vssflow_jax.run.run_config import resolved_values
from vssflow_jax.train.step import jit_train_step
from vssflow_jax.utils import plugins
from vssflow_jax.utils.errors import UserError

STEPS = 3  # that are timed

Found = dict[str, Any]  # JSON values
Task = Callable[..., Found]  # of a config, devices, and what else the job says


def find_memory(config: ml_collections.ConfigDict, devices: Sequence[jax.Device]) -> Found:
    """Bytes that a step keeps on a device, whether it fits, and how large a batch would."""
    program = Program.from_config(config, devices)
    started = time.perf_counter()
    memory, accepted = measure_memory(program)
    compile_sec = time.perf_counter() - started
    limit = _memory_limit(devices[0])
    return {
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
        "slices": slices.count(devices),
        "mesh": {
            axis: size
            for axis, size in program.experiment.mesh_rules.mesh.shape.items()
            if size > 1
        },
        "latents": program.latents,
        "clips": config.train.batch_size,
        "model_flops": step_flops(
            program.experiment.model, program.experiment.spec.latent_frames, config.train.batch_size
        )
        / len(devices),
        "memory": dataclasses.asdict(memory) | {"peak": memory.peak},
        "memory_limit": limit,
        "fits": accepted and (memory.peak or 0) <= limit if limit else None,
        "largest_clips_per_device": limit and largest_batch(config, devices, memory, limit),
        "compile_sec": compile_sec,
    }


def find_totals(config: ml_collections.ConfigDict, devices: Sequence[jax.Device]) -> Found:
    """What a device does in a step."""
    return {"totals": dict(count_step(config, devices))}


def find_schedule(
    config: ml_collections.ConfigDict,
    devices: Sequence[jax.Device],
    work_sec: float,
    dcn_bytes_per_sec: float,
) -> Found:
    """What the step, compiled as training does, hides of its collectives by its schedule.

    Twice: by the cycles that XLA estimates for each instruction, and with these scaled to what a
    roofline has for all work, `work_sec`. Nothing where the compiler finds that it does not fit.
    """
    chip = chips.find(devices[0].device_kind)
    assert chip, f"unknown device: {devices[0].device_kind}"
    chip = dataclasses.replace(chip, dcn_bytes_per_sec=dcn_bytes_per_sec)
    program = Program.from_config(config, devices)
    try:
        text = program.compile(effort=True).as_text()
    except TooLarge:
        return {}
    assert text
    by_cycles, by_roofline = (
        dataclasses.asdict(follow(text, program.devices_of_slice, chip, sec))
        for sec in (None, work_sec)
    )
    return {"schedule": {"by_cycles": by_cycles, "by_roofline": by_roofline}}


def find_measured(config: ml_collections.ConfigDict, devices: Sequence[jax.Device]) -> Found:
    """What a step of random clips shows on the devices that there are.

    It runs once to compile, then `STEPS` times; the seconds are their median. The memory is what a
    device says.
    """
    program = Program.from_config(config, devices)
    experiment = program.experiment
    init = jax.jit(experiment.init, out_shardings=experiment.state_shardings)
    codec = experiment.codec.abstract
    state = init(jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), codec))
    batch, step = random_batch(program.abstract_batch()), jit_train_step(experiment)
    seconds = []
    for _ in range(1 + STEPS):
        started = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state, batch))
        seconds.append(time.perf_counter() - started)
    memory = jax.local_devices()[0].memory_stats() or {}
    measured = {
        "step_sec": statistics.median(seconds[1:]),
        "loss": float(metrics["loss"]),
        "peak_bytes": memory.get("peak_bytes_in_use"),
        "limit_bytes": memory.get("bytes_limit"),
    }
    return {"measured": measured}


TASKS: dict[str, Task] = {
    "memory": find_memory,
    "totals": find_totals,
    "schedule": find_schedule,
    "measured": find_measured,
}

PARTS, MEASURED = ("memory", "totals"), ("measured",)
"""The tasks that make up any plan, and where steps can be run."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One of `TASKS` for one strategy.

    Attributes:
      task: its name.
      config: with the strategy.
      topology: topology to plan for.
      clips_per_device: clips of a batch, on average: `tp` and `sp` put the clips of a group on each
        of its devices. None: the batch is that of the config.
      arguments: what else the task takes.
    """

    task: str
    config: ml_collections.ConfigDict
    topology: Topology
    clips_per_device: int | None
    arguments: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def strategy(self) -> str:
        return self.config.sharding.strategy

    @property
    def key(self) -> list[Any]:
        """All that the result depends on, beside sources and packages, as JSON values."""
        config = resolved_values(self.config)
        arguments = dict(self.arguments)
        return [self.task, self.topology.name, self.clips_per_device, arguments, config]

    def run(self) -> Found:
        """What is found, or {"error": ...} where the config does not go with the devices."""
        plugins.load(self.config.plugins)  # which this process may know nothing of
        try:
            devices = self.topology.devices()
            config = self.config
            if self.clips_per_device:
                clips = self.clips_per_device * len(devices)
                config = changed(config, train__batch_size=clips)
            return TASKS[self.task](config, devices, **self.arguments)
        except UserError as error:
            return {"error": str(error)}
        except TooLarge:
            return {"error": "three blocks alone do not fit the memory of a device"}


def _memory_limit(device: jax.Device) -> float | None:
    """Bytes that a program may have, by the device itself if it is there, else by the table."""
    there = device in jax.devices()
    stats = device.memory_stats() if there else None
    chip = chips.find(device.device_kind)
    return (stats or {}).get("bytes_limit") or (chip.memory_bytes if chip else None)
