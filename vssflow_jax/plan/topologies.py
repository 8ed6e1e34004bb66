"""Where a plan is for: devices that there are, that are simulated, or that are only described."""

import dataclasses
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from vssflow_jax.parallel import chips
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

LOCAL = "local"
EXAMPLES = "cpu:8, local, v5e:2x4, v6e:16x16, v5p:4x4x4 or 2xv5e:2x4"

# Work on how fast a program compiles, not on how fast it runs. The FLOPs stay the same, and so do
# the collectives, but that each is written once: with full effort an all-gather that overlaps with
# others is written in several pieces, each as large as the whole.
# (What this was called until jaxlib 0.10, `exec_time_optimization_effort`, later ones do not know.)
_TPU_OPTIONS: dict[str, str | float | bool] = {"xla_optimization_level": "EFFORT_O0"}
# Products are not to be cut into loops that gather or reduce as they go: those move the same bytes,
# but loops cannot be counted.
_TPU_COUNTING_OPTIONS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": 1_000_000}
# Of machine code, which is not looked at.
_CPU_OPTIONS: dict[str, str | float | bool] = {"xla_backend_optimization_level": 0}

# libtpu asks the machine for its TPUs unless it is told of one, and wants to be the only process.
_TPU_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_SKIP_MDS_QUERY": "1",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """What --topology says.

    Attributes:
      name: as it was given.
      simulated: CPU devices to simulate; 0 for others.
      slices: slices of TPUs, each of which is what follows the number in the name.
    """

    name: str
    simulated: int = 0
    slices: int = 1

    @classmethod
    def parse(cls, name: str) -> "Topology":
        """From the value of a flag.

        Raises:
          UserError: it is no topology, or libtpu, which knows those of TPUs, is not installed.
        """
        if name == LOCAL:
            return cls(name)
        if match := re.fullmatch(r"cpu:([1-9]\d*)", name):
            return cls(name, int(match[1]))
        match = re.fullmatch(r"(?:([1-9]\d*)x)?(v\d\w*:\d+x\d+(x\d+)?)", name)
        if not match:
            raise UserError(f"--topology is '{name}'; give one such as {EXAMPLES}")
        require("libtpu", "tpu")
        return cls(name, slices=int(match[1] or 1))

    @property
    def slice_name(self) -> str:
        """The topology of one slice."""
        return re.sub(r"^\d+x", "", self.name)

    @property
    def chip(self) -> chips.Chip | None:
        """The chip of a slice of TPUs, if it is in the table."""
        kind = self.slice_name.partition(":")[0]
        return next((chip for chip in chips.CHIPS if chip.name == kind), None)

    @property
    def runs(self) -> bool:
        """Whether a step can be run there, not only compiled."""
        return self.simulated > 0 or self.name == LOCAL

    def prepare(self) -> None:
        """Set up a process that has not used JAX yet."""
        if self.name == LOCAL:
            return
        jax.config.update("jax_platforms", "cpu")
        if self.simulated:
            jax.config.update("jax_num_cpu_devices", self.simulated)
        else:
            os.environ.update(_TPU_ENVIRONMENT)

    def devices(self) -> Sequence[jax.Device]:
        """The devices, or descriptions of them to compile for.

        Raises:
          UserError: libtpu has no such topology.
        """
        if self.runs:
            return jax.devices()
        try:
            return topologies.get_topology_desc(
                platform="tpu", topology_name=self.slice_name, num_slices=self.slices
            ).devices
        except jax.errors.JaxRuntimeError as error:
            raise UserError(
                f"--topology is '{self.name}', of which libtpu says: {error}; give one such as "
                f"{EXAMPLES}"
            ) from error


def compile_options(platform: str, *, counting: bool) -> dict[str, str | float | bool]:
    """Compiler options for a platform, to measure or to count a program with little effort."""
    if platform == "tpu":
        return _TPU_OPTIONS | (_TPU_COUNTING_OPTIONS if counting else {})
    return _CPU_OPTIONS if platform == "cpu" else {}
