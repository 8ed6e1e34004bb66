"""What a step keeps in the memory of one device."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax

from vssflow_jax.plan.programs import Program, TooLarge, changed

if TYPE_CHECKING:
    import ml_collections


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device at the peak of a step.

    Attributes:
      parameters: weights, trained and frozen.
      optimizer: its state.
      ema: the running mean of the weights.
      codec: weights of the audio codec.
      batch: clips.
      temporaries: gradients, activations and whatever else lives only during a step; None where a
        step does not fit and the compiler does not say how much it needs.
    """

    parameters: int
    optimizer: int
    ema: int
    codec: int
    batch: int
    temporaries: int | None

    @property
    def arguments(self) -> int:
        """All but the temporaries."""
        return self.parameters + self.optimizer + self.ema + self.codec + self.batch

    @property
    def peak(self) -> int | None:
        return None if self.temporaries is None else self.arguments + self.temporaries


def measure_memory(program: Program) -> tuple[Memory, bool]:
    """Memory of a step as training runs it, and whether the compiler accepts it."""
    state = program.experiment.abstract_state
    memory = Memory(
        parameters=device_bytes((state.params, state.frozen)),
        optimizer=device_bytes(state.opt_state),
        ema=device_bytes(state.ema),
        codec=device_bytes(state.codec),
        batch=device_bytes(program.abstract_batch()),
        temporaries=None,
    )
    try:
        compiled = program.compile()
    except TooLarge as error:
        return dataclasses.replace(memory, temporaries=error.temporary_bytes), False
    temporaries = max(0, peak_bytes(compiled, program.platform) - memory.arguments)
    return dataclasses.replace(memory, temporaries=temporaries), True


def device_bytes(tree: Any) -> int:
    """Bytes of the parts of abstract arrays that lie on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def largest_batch(
    config: "ml_collections.ConfigDict", devices: Sequence[jax.Device], memory: Memory, limit: float
) -> int | None:
    """Clips per device of the largest batch that fits.

    What grows with the batch is taken to be linear in it. One more compile, of the batch that would
    fit if there were no constant part, gives the second point of the line: not far from the answer.

    Args:
      config: with the batch size that `memory` is of.
      devices: devices to lay out.
      memory: memory of a step of that config.
      limit: bytes that a device has for a program.

    Returns:
      0 if not even one clip fits; None where the compiler does not say what it needs.
    """
    if memory.temporaries is None:
        return None
    clips = config.train.batch_size / len(devices)
    state = memory.arguments - memory.batch
    growing = memory.batch + memory.temporaries
    nearby = max(1, math.floor(clips * (limit - state) / growing))
    if nearby == clips:
        nearby += 1
    other, _ = measure_memory(
        Program.from_config(changed(config, train__batch_size=nearby * len(devices)), devices)
    )
    if other.peak is None or memory.peak is None:
        return None
    per_clip = (other.peak - memory.peak) / (nearby - clips)
    return max(0, math.floor(clips + (limit - memory.peak) / per_clip))


def peak_bytes(compiled: jax.stages.Compiled, platform: str) -> int:
    """Bytes in use at once, arguments included."""
    found = compiled.memory_analysis()
    assert found
    if platform == "tpu":
        return found.peak_memory_in_bytes
    # Elsewhere that figure leaves out the buffer of temporaries, or part of it.
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return found.argument_size_in_bytes + results + found.temp_size_in_bytes
