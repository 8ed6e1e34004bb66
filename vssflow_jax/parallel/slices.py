"""Slices: devices with fast links among them, and the data centre's network between the slices.

A mesh over several slices is hybrid: along each axis it counts slices first, then devices within
one. An axis may go from slice to slice where a strategy cuts nothing but batches by it, so that
gradients alone are summed over the network, once a step; what is cut by other axes is gathered or
summed in every block.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils

from vssflow_jax.utils.errors import UserError

SLICE, PROCESS = "slice_index", "process_index"
"""Attributes of devices, by which they belong together."""


def count(devices: Sequence[jax.Device]) -> int:
    """Slices that devices say they are of; those of CPUs say nothing, and are of one."""
    return len(_sizes(devices, SLICE))


def find(given: int, devices: Sequence[jax.Device]) -> int:
    """Number of slices to lay devices out as.

    GPUs name each machine a slice, though the network between machines may be as fast as each
    GPU's share of it needs: they are of one unless more are given.

    Args:
      given: `sharding.mesh.slices`; 0 for as many as TPUs say.
      devices: all devices.

    Raises:
      UserError: devices are of another number of slices and of processes, or of unequal ones.
    """
    of_tpus = devices[0].platform == "tpu"
    slices = given or (count(devices) if of_tpus else 1)
    possible = {count(devices), len(_sizes(devices, PROCESS))} | (set() if of_tpus else {1})
    if slices not in possible:
        raise UserError(
            f"sharding.mesh.slices is {given}, but devices are those of {count(devices)} slice(s) "
            f"and {len(_sizes(devices, PROCESS))} process(es); give one of these, or 0 to find it"
        )
    sizes = _sizes(devices, _attribute(slices, devices)) if slices > 1 else {}
    if len(set(sizes.values())) > 1:
        raise UserError(
            f"the slices have {', '.join(map(str, sizes.values()))} devices; start the job on "
            "slices of one size"
        )
    return slices


def parts_across(
    sizes: Mapping[str, int], axes: Sequence[str], slices: int
) -> dict[str, int] | None:
    """Slices along each mesh axis, the first axes taking what they can.

    Args:
      sizes: devices along each axis, over all slices.
      axes: axes that may go from slice to slice.
      slices: number of slices.

    Returns:
      None where these axes cannot take them all.
    """
    across = dict.fromkeys(sizes, 1)
    for axis in axes:
        across[axis] = math.gcd(sizes[axis], slices)
        slices //= across[axis]
    return across if slices == 1 else None


def lay_out(
    sizes: Mapping[str, int], across: Mapping[str, int], devices: Sequence[jax.Device]
) -> np.ndarray:
    """Devices by their place in the mesh, neighbours along an axis near one another.

    Args:
      sizes: devices along each axis.
      across: slices along each axis, `parts_across`.
      devices: all devices.
    """
    # A side of a torus may be shared by two axes.
    slices = math.prod(across.values())
    if slices == 1:
        return mesh_utils.create_device_mesh(
            tuple(sizes.values()), devices, allow_split_physical_axes=True
        )
    return mesh_utils.create_hybrid_device_mesh(
        tuple(size // across[axis] for axis, size in sizes.items()),
        tuple(across.values()),
        devices,
        process_is_granule=_attribute(slices, devices) == PROCESS,
        allow_split_physical_axes=True,
    )


def _attribute(slices: int, devices: Sequence[jax.Device]) -> str:
    """What tells the slices apart."""
    return SLICE if count(devices) == slices else PROCESS


def _sizes(devices: Sequence[jax.Device], attribute: str) -> Counter[int]:
    """Number of devices by the value of an attribute."""
    return Counter(getattr(device, attribute, 0) for device in devices)
