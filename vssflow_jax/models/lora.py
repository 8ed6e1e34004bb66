"""Low-rank adapters: fine-tuning that learns W + (alpha / r) A B and leaves W as it is.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". The sum is formed once
a step, so that the network itself knows nothing of it; gradients and the optimizer's moments are of
A and B alone.

Letters: l layers, i numbers that come in (of one or two axes), r rank, o numbers that go out.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.sharding import NamedSharding, PartitionSpec

from vssflow_jax.models.parts import BLOCKS, LORA_A, LORA_B, MAPS
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.state_dict import open_safetensors, write_state_dict

if TYPE_CHECKING:
    import ml_collections

Weights = dict[Any, Any]  # nested


@dataclasses.dataclass(frozen=True)
class Lora:
    """Which weights get adapters, and of what size.

    Attributes:
      rank: r.
      alpha: what is learned counts alpha / r times.
      targets: parts of dotted names, such as "self_attention" or "ffw"; each map in whose name one
        of them occurs has an adapter.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises UserError for a rank below 1 or no targets."""
        if self.rank < 1 or not self.targets:
            raise UserError(
                f"train.lora.rank is {self.rank} and targets are {self.targets}; give a rank of 1 "
                "or more and names of weights, such as self_attention"
            )

    @classmethod
    def from_config(cls, section: "ml_collections.ConfigDict") -> "Lora | None":
        """By `train.lora` of a config; None where it asks for none.

        Raises:
          UserError: sizes that cannot be.
        """
        if not section.rank and not section.path:
            return None
        return cls(section.rank, float(section.alpha), tuple(section.targets))

    def abstract(self, weights: Weights) -> Weights:
        """Shapes and shardings of the adapters, nested: of each map its A and its B.

        Args:
          weights: nested shapes of the weights that they are for, with their shardings if these
            are known.

        Raises:
          UserError: a target that occurs in the name of no map.
        """
        leaves = traverse_util.flatten_dict(weights, sep=".")
        maps = {name: leaf for name, leaf in leaves.items() if name.rpartition(".")[2] in MAPS}
        for target in self.targets:
            if not any(target in name for name in maps):
                raise UserError(
                    f"train.lora.targets has '{target}', which is in no name of a map; choose from "
                    f"{', '.join(maps)}"
                )
        return traverse_util.unflatten_dict(
            {
                f"{name}.{part}": leaf
                for name, whole in maps.items()
                if any(target in name for target in self.targets)
                for part, leaf in self._parts(name, whole).items()
            },
            sep=".",
        )

    def _parts(self, name: str, whole: jax.ShapeDtypeStruct) -> dict[str, jax.ShapeDtypeStruct]:
        first, last = _inputs(name)
        spec: list[Any] = [None] * len(whole.shape)
        placed = whole.sharding
        if isinstance(placed, NamedSharding):
            spec[: len(placed.spec)] = placed.spec

        def part(shape: tuple[int, ...], axes: list[Any]) -> jax.ShapeDtypeStruct:
            on_mesh = isinstance(placed, NamedSharding)
            sharding = NamedSharding(placed.mesh, PartitionSpec(*axes)) if on_mesh else placed
            return jax.ShapeDtypeStruct(shape, whole.dtype, sharding=sharding)

        return {
            LORA_A: part((*whole.shape[:last], self.rank), [*spec[:last], None]),
            LORA_B: part(
                (*whole.shape[:first], self.rank, *whole.shape[last:]),
                [*spec[:first], None, *spec[last:]],
            ),
        }

    def init(self, key: jax.Array, abstract: Weights) -> Weights:
        """Adapters that add nothing yet: A normal, of variance 1 / i, and B zero."""
        leaves = traverse_util.flatten_dict(abstract, sep=".")
        keys = dict(zip(sorted(leaves), jax.random.split(key, len(leaves)), strict=True))

        def draw(name: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
            if name.endswith(LORA_B):
                return jnp.zeros(leaf.shape, leaf.dtype)
            first, last = _inputs(name.rpartition(".")[0])
            deviation = math.prod(leaf.shape[first:last]) ** -0.5
            return deviation * jax.random.normal(keys[name], leaf.shape, leaf.dtype)

        return traverse_util.unflatten_dict(
            {name: draw(name, leaf) for name, leaf in leaves.items()}, sep="."
        )

    def merged(self, weights: Weights, adapters: Weights) -> Weights:
        """The weights with what the adapters add, nested."""
        leaves = traverse_util.flatten_dict(weights, sep=".")
        parts = traverse_util.flatten_dict(adapters, sep=".")
        for name in [name for name in leaves if f"{name}.{LORA_B}" in parts]:
            whole, (first, _) = leaves[name], _inputs(name)
            layers = whole.shape[:first]
            down = parts[f"{name}.{LORA_A}"].reshape(*layers, -1, self.rank)
            up = parts[f"{name}.{LORA_B}"].reshape(*layers, self.rank, -1)
            product = jnp.matmul(down, up, precision="highest")  # [l, i, o]
            leaves[name] = whole + self.alpha / self.rank * product.reshape(whole.shape)
        return traverse_util.unflatten_dict(leaves, sep=".")

    def write(self, path: Path, adapters: Weights) -> None:
        """Write a safetensors file of adapters, with their sizes."""
        flat = traverse_util.flatten_dict(jax.device_get(adapters), sep=".")
        write_state_dict(path, flat, {"lora": json.dumps(dataclasses.asdict(self))})

    def read(self, path: Path, abstract: Weights) -> Weights:
        """The adapters in a file that `write` wrote, placed as `abstract` says.

        Raises:
          UserError: no such file, or adapters of other sizes or of other weights.
        """
        wanted = traverse_util.flatten_dict(abstract, sep=".")
        with open_safetensors(path) as tensors:
            self._check_same(path, (tensors.metadata() or {}).get("lora"))
            found = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        for name in sorted(wanted.keys() | found.keys()):
            here = wanted[name].shape if name in wanted else "absent"
            there = found[name].shape if name in found else "absent"
            if here != there:
                raise UserError(
                    f"{path} holds adapters of another model: {name} is {there} there and {here} "
                    "here; name the weights that they were trained on by --config.train.init_from"
                )
        placed = {name: jax.device_put(found[name], leaf.sharding) for name, leaf in wanted.items()}
        return traverse_util.unflatten_dict(placed, sep=".")

    def _check_same(self, path: Path, sizes: str | None) -> None:
        if sizes is None:
            raise UserError(f"{path} is no file of adapters; export_weights --adapters writes one")
        theirs = json.loads(sizes)
        for name, value in json.loads(json.dumps(dataclasses.asdict(self))).items():
            if theirs.get(name) != value:
                raise UserError(
                    f"the adapters in {path} have {name} = {theirs.get(name)}, the config's "
                    f"train.lora.{name} is {value}; make them equal"
                )


def _inputs(name: str) -> tuple[int, int]:
    """First and last of the axes of a map that come in: between them and what goes out."""
    first = int(name.startswith(BLOCKS))
    return first, first + MAPS[name.rpartition(".")[2]]
