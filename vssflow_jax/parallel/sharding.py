"""One mesh, named strategies: which mesh axes each logical axis lies on.

Weights declare logical axes where they are made (`layers.weight`), activations where they are
computed (`MeshRules.constrain`). A strategy is a table from those names to mesh axes; a name that
is not in the table is whole on every device. All axes are `Auto`: the compiler adds the
collectives.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vssflow_jax.parallel import slices
from vssflow_jax.utils.errors import UserError

if TYPE_CHECKING:
    import ml_collections

MESH_AXES = ("data", "fsdp", "tensor", "sequence")

WEIGHT_AXES = (
    "layers",
    "embed",
    "embed_in",
    "heads",
    "kv_heads",
    "head_dim",
    "ffw",
    "norm",
    "features",
    "projector",
    "condition",
    "channel",
    "vocabulary",
)
# Activations have heads, kv_heads and ffw too.
ACTIVATION_AXES = ("batch", "tokens")
LOGICAL_AXES = (*WEIGHT_AXES, *ACTIVATION_AXES)

# Where some weights are sharded, one with more numbers than this must be.
LARGEST_WHOLE = 2**22

HOST_MEMORY = "pinned_host"
"""JAX's kind of the memory of the host that its devices can read and write by themselves."""

Rules = Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Where logical axes lie, and the mesh that suits it.

    Attributes:
      rules: mesh axes of each logical axis.
      mesh: sizes that are not 1: -1 for all devices that are left, else at most so many.
    """

    rules: Rules
    mesh: Mapping[str, int]


def _rules(**given: str) -> Rules:
    """Rules for weights, in words, beside those for clips, which are the same everywhere."""
    clips: Rules = {"batch": ("data", "fsdp")}
    return {**clips, **{axis: tuple(on.split()) for axis, on in given.items()}}


_WIDTH = {"embed": "fsdp", "projector": "fsdp"}
_HEADS = {"heads": "tensor", "kv_heads": "tensor", "ffw": "tensor"}
# As wide as the fast links of most machines: four chips of a TPU host, half the GPUs of a node.
_GROUP = 4

STRATEGIES = {
    # Weights whole everywhere; gradients are summed.
    "dp": Strategy(_rules(), {"data": -1}),
    # Weights in parts, gathered block by block (ZeRO stage 3).
    "fsdp": Strategy(_rules(**_WIDTH), {"fsdp": -1}),
    # Replicas of such groups: only gradients travel far.
    "hsdp": Strategy(_rules(**_WIDTH), {"data": -1, "fsdp": _GROUP}),
    # Heads and feed-forward channels in parts (Megatron), activations summed.
    "tp": Strategy(
        _rules(**_HEADS, projector="tensor", embed_in="tensor"), {"data": -1, "tensor": _GROUP}
    ),
    "fsdp_tp": Strategy(_rules(**_WIDTH, **_HEADS), {"fsdp": -1, "tensor": _GROUP}),
    # Tokens of a clip in parts, keys and values gathered; weights in parts over all devices.
    "sp": Strategy(
        _rules(embed="fsdp sequence", projector="fsdp sequence", tokens="sequence"),
        {"fsdp": -1, "sequence": _GROUP},
    ),
}


@dataclasses.dataclass(frozen=True)
class MeshRules:
    """A mesh and the strategy that places arrays on it.

    Attributes:
      mesh: of all devices.
      rules: mesh axes of each logical axis.
      reduce_dtype: that gradients of maps are summed over devices in, if the model's is no finer.
    """

    mesh: Mesh
    rules: Rules
    reduce_dtype: str = "float32"

    @property
    def replicated(self) -> NamedSharding:
        """Whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """Leading axis over the devices that clips are spread over."""
        return self.sharding("batch")

    @property
    def batch_devices(self) -> int:
        """Parts that the clips of a batch are spread over."""
        return self.axis_size("batch")

    def axis_size(self, axis: str) -> int:
        """Parts that a logical axis is cut into."""
        return math.prod(self.mesh.shape[name] for name in self.rules.get(axis, ()))

    def sharding(self, *axes: str | None) -> NamedSharding:
        """Of an array with these logical axes; None for an axis that is whole."""
        found = [self.rules.get(axis, ()) if axis else () for axis in axes]
        short = [(names[0] if len(names) == 1 else names) if names else None for names in found]
        return NamedSharding(self.mesh, PartitionSpec(*short))

    def constrain(self, x: jax.Array, *axes: str | None) -> jax.Array:
        """Tell the compiler where an activation lies, by the logical axes of its dimensions."""
        return self.constrain_tree(x, self.sharding(*axes))

    def constrain_tree(self, tree: Any, shardings: Any) -> Any:
        """Tell the compiler where arrays lie; says nothing where there is one device."""
        if self.mesh.size == 1:
            return tree
        return jax.lax.with_sharding_constraint(tree, shardings)

    @property
    def has_host_memory(self) -> bool:
        """Whether the devices reach memory of their host."""
        # Those of other processes may say nothing of it.
        return any(
            memory.kind == HOST_MEMORY
            for device in self.mesh.devices.flat
            for memory in device.addressable_memories()
        )

    def spread(self, x: jax.Array) -> jax.Array:
        """Rows over the devices, after as many of the last one as make them equally many each."""
        padding = -len(x) % self.batch_devices
        return self.constrain(jnp.concatenate([x, *[x[-1:]] * padding]), "batch")

    def local_rows(self, batch_size: int) -> np.ndarray:
        """Which clips of a batch the devices of this process hold, in order."""
        held = self.batch.addressable_devices_indices_map((batch_size,)).values()
        return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held]))

    def __hash__(self) -> int:
        return hash(self.mesh)


def make_mesh_rules(
    config: "ml_collections.ConfigDict", devices: Sequence[jax.Device] | None = None
) -> MeshRules:
    """The mesh over all devices, and the rules of a strategy.

    Args:
      config: the `sharding` section: `strategy`, a key of `STRATEGIES` or of its own `strategies`;
        `mesh`, devices along each of `MESH_AXES`, where one may be -1 for all that are left and 0
        leaves it to the strategy, and `slices` that they are of, 0 to find it;
        `weights_across_slices`, whether more than gradients may go from slice to slice;
        `reduce_dtype`, see `MeshRules`.
      devices: devices to lay out; those that JAX sees, if None.

    Raises:
      UserError: an unknown strategy or axis, sizes that do not make up the devices or the slices
        there are, or ones that would gather weights across slices.
    """
    strategy = find_strategy(config)
    devices = jax.devices() if devices is None else devices
    num_slices = slices.find(config.mesh.slices, devices)
    shape = mesh_shape(config.mesh, strategy, len(devices), num_slices)
    used = {name for names in strategy.rules.values() for name in names}
    for axis, size in zip(MESH_AXES, shape, strict=True):
        if size > 1 and axis not in used:
            raise UserError(
                f"sharding.mesh.{axis} is {size}, but sharding.strategy '{config.strategy}' "
                "lays nothing on it; make it 1"
            )
    sizes = dict(zip(MESH_AXES, shape, strict=True))
    across = _slices_along(config, strategy, sizes, num_slices)
    placed = slices.lay_out(sizes, across, devices)
    types = (AxisType.Auto,) * len(MESH_AXES)
    mesh = Mesh(placed, MESH_AXES, axis_types=types)
    return MeshRules(mesh, strategy.rules, config.reduce_dtype)


def find_strategy(config: "ml_collections.ConfigDict") -> Strategy:
    """The strategy that the `sharding` section of a config names.

    Raises:
      UserError: there is none of that name, or its own entry names an unknown axis.
    """
    own = dict(config.strategies)
    if config.strategy not in STRATEGIES | own:
        known = ", ".join(STRATEGIES | own)
        raise UserError(f"sharding.strategy is '{config.strategy}'; choose one of: {known}")
    if config.strategy not in own:
        return STRATEGIES[config.strategy]
    where = f"sharding.strategies.{config.strategy}"
    given = own[config.strategy]
    rules, mesh = given.get("rules", {}), given.get("mesh", {})
    _check_names(f"{where}.rules", rules, LOGICAL_AXES)
    _check_names(f"{where}.mesh", mesh, MESH_AXES)
    for axis, names in rules.items():
        _check_names(f"{where}.rules.{axis}", names.split(), MESH_AXES)
    return Strategy(_rules(**rules), mesh)


def _slices_along(
    config: "ml_collections.ConfigDict",
    strategy: Strategy,
    sizes: Mapping[str, int],
    num_slices: int,
) -> Mapping[str, int]:
    """Slices along each mesh axis."""
    cutting = {name for axis, on in strategy.rules.items() if axis != "batch" for name in on}
    may_cross = [axis for axis in MESH_AXES if axis not in cutting]
    if config.weights_across_slices:
        may_cross += [axis for axis in MESH_AXES if axis in cutting]
    across = slices.parts_across(sizes, may_cross, num_slices)
    if across is None:
        mesh = " x ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise UserError(
            f"sharding.strategy '{config.strategy}' with a mesh of {mesh} would gather weights or "
            f"activations between {num_slices} slices in every block; take sharding.strategy=hsdp, "
            f"or make sharding.mesh.data a multiple of {num_slices}, so that only gradients cross, "
            "or ask for it by sharding.weights_across_slices=True"
        )
    return across


def _check_names(where: str, names: Any, known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"{where} names the axis '{name}'; choose from: {', '.join(known)}")


def mesh_shape(
    sizes: Mapping[str, int], strategy: Strategy, devices: int, num_slices: int = 1
) -> tuple[int, ...]:
    """Devices along each of `MESH_AXES`: as given, or where that is 0 as suits the strategy.

    What suits a strategy divides a slice, of which there are `num_slices`.

    Raises:
      UserError: the sizes do not make up as many devices.
    """

    def size(axis: str) -> int:
        if sizes[axis]:
            return sizes[axis]
        suits = strategy.mesh.get(axis, 1)
        return suits if suits == -1 else math.gcd(suits, devices // num_slices)

    shape = [size(axis) for axis in MESH_AXES]
    given = math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and given > 0:
        shape[shape.index(-1)] = devices // given
    if any(size < 1 for size in shape) or math.prod(shape) != devices:
        wanted = " x ".join(f"{axis}={size(axis)}" for axis in MESH_AXES)
        raise UserError(
            f"sharding.mesh is {wanted}, which does not make up {devices} device(s); let one size "
            "be -1 and the others divide them"
        )
    return tuple(shape)


def param_shardings(abstract: nnx.State, mesh_rules: MeshRules) -> Any:
    """Sharding of each weight, as nested dicts like `nnx.to_pure_dict(abstract)`.

    Raises:
      UserError: a weight whose axis does not divide over its mesh axes, two of whose axes lie on
        the same one, or that is large and whole on every device though others are not.
    """
    spares_none = any(axis in WEIGHT_AXES for axis in mesh_rules.rules)

    def place(path: tuple[Any, ...], weight: nnx.Variable) -> NamedSharding:
        name = ".".join(str(getattr(key, "key", key)) for key in path)
        axes = weight.get_metadata().get("out_sharding") or ()
        unknown = set(axes) - set(WEIGHT_AXES)
        assert not unknown, f"weight {name} has unknown logical axes {unknown}"
        used = [mesh_axis for axis in axes for mesh_axis in mesh_rules.rules.get(axis, ())]
        if len(used) > len(set(used)):
            raise UserError(
                f"weight {name}: two of its axes {axes} lie on the same mesh axis ({used}); take "
                "one of them out of the strategy's rules"
            )
        if spares_none and not used and weight.size > LARGEST_WHOLE:
            raise UserError(
                f"weight {name}: {weight.size:,} numbers lie whole on every device; give one of "
                f"its axes {axes} a rule in the strategy"
            )
        for size, axis in zip(weight.shape, axes, strict=True):
            if size % mesh_rules.axis_size(axis):
                raise UserError(
                    f"weight {name}: its axis '{axis}' of {size} does not divide over "
                    f"{mesh_rules.axis_size(axis)} devices of mesh axis "
                    f"'{' x '.join(mesh_rules.rules[axis])}'; change the model's sizes, "
                    "sharding.mesh or sharding.strategy"
                )
        return mesh_rules.sharding(*axes)

    placed = jax.tree_util.tree_map_with_path(
        place, abstract, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )
    return nnx.to_pure_dict(placed)


def like_weights(state: Any, weights: Any) -> Any:
    """Sharding of each array of an optimizer's state: that of the weight which it is of.

    It is of the weight whose names end its own. One of the same shape lies as the weight does; one
    that lacks an axis, as the means of rows and columns do, as the others of its axes; what is of
    another shape or of no weight is whole on every device.

    Args:
      state: shapes of the state.
      weights: nested shapes of the weights, with their shardings.
    """
    by_path = traverse_util.flatten_dict(weights)
    whole = NamedSharding(next(iter(by_path.values())).sharding.mesh, PartitionSpec())

    def place(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        names = tuple(getattr(key, "key", None) for key in path)
        of = next((found for i in range(len(names)) if (found := by_path.get(names[i:]))), None)
        if of is None:
            return whole
        if leaf.shape == of.shape:
            return of.sharding
        spec = [*of.sharding.spec, *[None] * (len(of.shape) - len(of.sharding.spec))]
        for axis in range(len(of.shape)):
            if leaf.shape == (*of.shape[:axis], *of.shape[axis + 1 :]):
                return NamedSharding(whole.mesh, PartitionSpec(*spec[:axis], *spec[axis + 1 :]))
        return whole

    return jax.tree_util.tree_map_with_path(place, state)


def put_batch(batch: Mapping[str, np.ndarray], mesh_rules: MeshRules) -> dict[str, jax.Array]:
    """Move the clips of this process (`MeshRules.local_rows`) to its devices, part of a batch."""
    return {
        name: jax.make_array_from_process_local_data(mesh_rules.batch, value)
        for name, value in batch.items()
    }
