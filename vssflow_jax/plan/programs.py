"""The train step of a config, compiled for devices: the very function that training runs."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from vssflow_jax.audio.codec import Codec
from vssflow_jax.features.phonemes import NUM_IDS
from vssflow_jax.parallel import slices
from vssflow_jax.plan.topologies import compile_options
from vssflow_jax.run.experiment import Batch, Experiment
from vssflow_jax.train.step import jit_train_step

if TYPE_CHECKING:
    import ml_collections

# In place of one whose weights are not at hand: steps with offline latents encode nothing.
_NO_CODEC = cast(Codec, SimpleNamespace(abstract={}))


@dataclasses.dataclass(frozen=True)
class Program:
    """A step that can be compiled.

    Attributes:
      experiment: what it trains.
      latents: whether batches have sounds, "online", or posteriors, "offline".
    """

    experiment: Experiment
    latents: str

    @classmethod
    def from_config(
        cls, config: "ml_collections.ConfigDict", devices: Sequence[jax.Device]
    ) -> "Program":
        """The step as training would run it; with offline latents where the codec has no folder.

        Raises:
          UserError: what `Experiment` raises.
        """
        lacks_codec = config.codec.kind == "audioldm_vae" and not config.codec.path
        codec = _NO_CODEC if lacks_codec else None
        experiment = Experiment.from_config(config, devices=devices, codec=codec)
        experiment.check_batch()
        return cls(experiment, "offline" if lacks_codec else config.codec.latents)

    @property
    def devices_of_slice(self) -> int:
        mesh = self.experiment.mesh_rules.mesh
        return mesh.size // slices.count(mesh.devices.flatten().tolist())

    @property
    def platform(self) -> str:
        return self.experiment.mesh_rules.mesh.devices.flat[0].platform

    def abstract_batch(self) -> Batch:
        return self.experiment.abstract_batch(self.experiment.train.batch_size, self.latents)

    def compile(self, *, counting: bool = False, effort: bool = False) -> jax.stages.Compiled:
        """Compile it, to measure, to count, or with all the effort that training has it done.

        Raises:
          TooLarge: the compiler finds that it does not fit the device's memory.
        """
        step = jit_train_step(self.experiment)
        lowered = step.lower(self.experiment.abstract_state, self.abstract_batch())
        options = {} if effort else compile_options(self.platform, counting=counting)
        try:
            return lowered.compile(options)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise TooLarge(_needed_bytes(str(error))) from error


class TooLarge(Exception):
    """A program does not fit a device's memory.

    Attributes:
      temporary_bytes: memory that the program needs beside its arguments, if the compiler says so.
    """

    def __init__(self, temporary_bytes: int | None):
        super().__init__(temporary_bytes)
        self.temporary_bytes = temporary_bytes


def random_batch(abstract: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Noise in the shapes and places of an abstract batch; integers are ids of phonemes."""
    rng = np.random.default_rng(0)
    return {
        name: jax.device_put(
            rng.integers(0, NUM_IDS, leaf.shape, leaf.dtype)
            if jnp.issubdtype(leaf.dtype, jnp.integer)
            else rng.standard_normal(leaf.shape, np.float32).astype(leaf.dtype),
            leaf.sharding,
        )
        for name, leaf in abstract.items()
    }


def changed(config: "ml_collections.ConfigDict", **changes: Any) -> "ml_collections.ConfigDict":
    """A copy with other values; names have `__` for the dot."""
    copy = config.copy_and_resolve_references()
    copy.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return copy


def _needed_bytes(message: str) -> int | None:
    size = re.search(r"temporaries \(([\d.]+)([KMG])\)", message)
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    return round(float(size[1]) * units[size[2]]) if size else None
