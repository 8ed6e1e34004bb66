"""One mesh, named strategies: which mesh axis each logical axis of a weight lies on.

Weights declare logical axes where they are made (`layers.weight`). A strategy is a table from
those names to mesh axes; a name that is not in the table is whole on every device.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vssflow_jax.errors import UserError

MESH_AXES = ("data", "fsdp", "tensor", "sequence")
BATCH_AXES = ("data", "fsdp")

LOGICAL_AXES = (
    "layers",
    "embed",
    "embed_in",
    "heads",
    "kv_heads",
    "ffw",
    "norm",
    "features",
    "projector",
    "condition",
    "channel",
    "vocabulary",
)

STRATEGIES: dict[str, dict[str, str]] = {
    "dp": {},
    "fsdp": {"embed": "fsdp"},
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh and the strategy that places arrays on it."""

    mesh: Mesh
    rules: Mapping[str, str]

    @property
    def replicated(self) -> NamedSharding:
        """Whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """Leading axis over the data-parallel devices."""
        return NamedSharding(self.mesh, PartitionSpec(BATCH_AXES))

    @property
    def batch_devices(self) -> int:
        """Devices that the clips of a batch are spread over."""
        return math.prod(self.mesh.shape[axis] for axis in BATCH_AXES)


def make_layout(sizes: Mapping[str, int], strategy: str) -> Layout:
    """The mesh over all devices, and the rules of a strategy.

    Args:
      sizes: devices along each of `MESH_AXES`; one of them may be -1, for the rest.
      strategy: a key of `STRATEGIES`.

    Raises:
      UserError: an unknown strategy, or sizes that do not make up the devices there are.
    """
    if strategy not in STRATEGIES:
        raise UserError(
            f"sharding.strategy is '{strategy}'; choose one of: {', '.join(STRATEGIES)}"
        )
    devices = jax.device_count()
    shape = [sizes[axis] for axis in MESH_AXES]
    given = math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and given > 0:
        shape[shape.index(-1)] = devices // given
    if any(size < 1 for size in shape) or math.prod(shape) != devices:
        wanted = " x ".join(f"{axis}={sizes[axis]}" for axis in MESH_AXES)
        raise UserError(
            f"sharding.mesh is {wanted}, which does not make up {devices} device(s); "
            "let one size be -1"
        )
    used = {*BATCH_AXES, *STRATEGIES[strategy].values()}
    idle = [
        axis for axis, size in zip(MESH_AXES, shape, strict=True) if size > 1 and axis not in used
    ]
    if idle:
        raise UserError(
            f"sharding.mesh.{idle[0]} is {sizes[idle[0]]}, but sharding.strategy '{strategy}' "
            "lays nothing on it; make it 1"
        )
    mesh = jax.make_mesh(tuple(shape), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))
    return Layout(mesh, STRATEGIES[strategy])


def param_shardings(abstract: nnx.State, layout: Layout) -> Any:
    """Sharding of each weight, as nested dicts like `nnx.to_pure_dict(abstract)`.

    Raises:
      UserError: a weight whose axis does not divide over its mesh axis.
    """

    def place(path: tuple[Any, ...], weight: nnx.Variable) -> NamedSharding:
        name = ".".join(str(getattr(key, "key", key)) for key in path)
        axes = weight.get_metadata().get("out_sharding") or ()
        unknown = set(axes) - set(LOGICAL_AXES)
        assert not unknown, f"weight {name} has unknown logical axes {unknown}"
        spec = [layout.rules.get(axis) for axis in axes]
        for size, axis, mesh_axis in zip(weight.shape, axes, spec, strict=True):
            if mesh_axis and size % layout.mesh.shape[mesh_axis]:
                raise UserError(
                    f"weight {name}: its axis '{axis}' of {size} does not divide over "
                    f"{layout.mesh.shape[mesh_axis]} devices of mesh axis '{mesh_axis}'; change "
                    "the model's width, sharding.mesh or sharding.strategy"
                )
        return NamedSharding(layout.mesh, PartitionSpec(*spec))

    placed = jax.tree_util.tree_map_with_path(
        place, abstract, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )
    return nnx.to_pure_dict(placed)


def put_batch(batch: Mapping[str, np.ndarray], layout: Layout) -> dict[str, jax.Array]:
    """Move a host batch to the devices, its clips spread over them."""
    return jax.device_put(dict(batch), layout.batch)
