"""A folder of imported weights: `weights.safetensors` with our names, and `config.json`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import SingleDeviceSharding

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import copy, whole_tree
from vssflow_jax.weights.mapping import Weights, flatten
from vssflow_jax.weights.state_dict import (
    CONFIG_FILE,
    check_finite,
    open_safetensors,
    read_json,
    write_state_dict,
)

WEIGHTS_FILE = "weights.safetensors"


def check_new(folder: Path) -> None:
    """Checks that nothing would be overwritten.

    Raises:
      UserError: the folder is there and not empty.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is there already; choose another --out or remove it")


def save(
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    weights: Weights,
    beside: Iterable[Path] = (),
) -> None:
    """Write a folder of weights, which appears whole or not at all.

    Args:
      folder: new, or empty.
      kind: what network they are of, a word.
      config: its sizes, as JSON values.
      weights: all of its weights, nested; written as float32.
      beside: files that are copied into the folder.

    Raises:
      UserError: the folder holds something.
    """
    check_new(folder)
    with whole_tree(folder) as partial:
        values = {"kind": kind, "config": config}
        (partial / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n")
        write_state_dict(partial / WEIGHTS_FILE, flatten(weights))
        for file in beside:
            copy(file, partial / file.name)


def is_imported(path: Path) -> bool:
    """Whether a path is of a folder as `save` writes them."""
    config = path / CONFIG_FILE
    return config.is_file() and {"kind", "config"} <= read_json(config).keys()


def read_config(folder: Path, kind: str) -> dict[str, Any]:
    """The sizes that were saved with the weights.

    Raises:
      UserError: no such folder, or weights of another kind.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of weights; import_weights makes one")
    values = read_json(folder / CONFIG_FILE)
    if values.get("kind") != kind or "config" not in values:
        found = values.get("kind", "something else")
        raise UserError(f"{folder} holds weights of '{found}'; give a folder of '{kind}'")
    return values["config"]


def names(folder: Path) -> list[str]:
    """Dotted names of the weights in a folder.

    Raises:
      UserError: no such folder, or one without weights.
    """
    with open_safetensors(folder / WEIGHTS_FILE) as tensors:
        return list(tensors.keys())


def load(folder: Path, kind: str, abstract: Weights) -> Weights:
    """Read a folder of weights onto the devices, each of which reads its own part only.

    Args:
      folder: as `save` wrote it.
      kind: what network the weights must be of.
      abstract: nested shapes and dtypes (`jax.ShapeDtypeStruct`) of all of its weights; where one
        has a sharding, the weight is placed so.

    Raises:
      UserError: no such folder, another kind, or weights that are missing, unknown or of another
        shape than in `abstract`.
    """
    read_config(folder, kind)
    path = folder / WEIGHTS_FILE
    leaves = traverse_util.flatten_dict(abstract)
    with open_safetensors(path) as tensors:
        slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
        _check_shapes(path, slices, flatten(abstract))
        loaded = {
            keys: _read(path, name, leaf, slices[name])
            for keys, leaf in leaves.items()
            for name in [".".join(map(str, keys))]
        }
    return traverse_util.unflatten_dict(loaded)


def _check_shapes(
    path: Path, slices: Mapping[str, Any], wanted: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
    for what, names in (
        ("lacks", sorted(wanted.keys() - slices.keys())),
        ("has unknown", sorted(slices.keys() - wanted.keys())),
    ):
        if names:
            raise UserError(
                f"{path} {what} weights: '{names[0]}' and {len(names) - 1} more; the config is of "
                "another model"
            )
    for name, leaf in wanted.items():
        found = tuple(slices[name].get_shape())
        if found != leaf.shape:
            raise UserError(
                f"{path}: '{name}' has shape {found}, but the config's model has {leaf.shape}"
            )


def _read(path: Path, name: str, leaf: jax.ShapeDtypeStruct, tensor: Any) -> jax.Array:
    """The weight that `leaf` describes, from a slice of a file, checked to be finite."""

    def read(index: Any) -> np.ndarray:
        part = tensor[index]
        check_finite(f"'{name}' of {path}", part)
        return part.astype(leaf.dtype)

    return jax.make_array_from_callback(leaf.shape, _sharding(leaf), read)


def place(array: np.ndarray, leaf: jax.ShapeDtypeStruct | jax.Array) -> jax.Array:
    """A weight on the devices, with the dtype and where `leaf` lies."""
    return jax.make_array_from_callback(
        leaf.shape, _sharding(leaf), lambda index: array[index].astype(leaf.dtype)
    )


def _sharding(leaf: jax.ShapeDtypeStruct | jax.Array) -> jax.sharding.Sharding:
    return leaf.sharding or SingleDeviceSharding(jax.local_devices()[0])
