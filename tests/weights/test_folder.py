"""Folders of imported weights."""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder as weights

CONFIG = {"width": 3}
WEIGHTS = {
    "blocks": {"w_io": np.arange(24, dtype=np.float32).reshape(4, 6).T},
    "stages": {0: {"bias": np.ones(5, np.float32)}, 1: {"bias": np.zeros(5, np.float32)}},
    "scale": np.float32(2.5),
}


def abstract(tree: Any = WEIGHTS) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), tree)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    weights.save(tmp_path / "imported", "vssflow", CONFIG, WEIGHTS)
    return tmp_path / "imported"


def test_loads_what_was_saved(folder: Path) -> None:
    loaded = weights.load(folder, "vssflow", abstract())
    jax.tree.map(np.testing.assert_array_equal, loaded, WEIGHTS)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))
    assert weights.read_config(folder, "vssflow") == CONFIG
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "weights.safetensors"]


def test_places_weights_as_their_shardings_say(folder: Path) -> None:
    """On eight devices; each is given the rows that are its own."""
    program = f"""
import pathlib
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from tests.weights.test_folder import WEIGHTS
from vssflow_jax.weights import folder as weights
mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
specs = {{(6, 4): PartitionSpec("a", "b")}}
abstract = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape, jnp.float32,
        sharding=NamedSharding(mesh, specs.get(leaf.shape, PartitionSpec())),
    ),
    WEIGHTS,
)
loaded = weights.load(pathlib.Path({str(folder)!r}), "vssflow", abstract)
matrix = loaded["blocks"]["w_io"]
print({{shard.data.shape for shard in matrix.addressable_shards}})
print((matrix == WEIGHTS["blocks"]["w_io"]).all(), loaded["scale"])
"""
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = tiny.run([sys.executable, "-c", program], env)
    assert done.stdout.splitlines() == [
        "{(3, 1)}",
        "True 2.5",
    ], done.stderr


def test_reads_only_the_slices_that_are_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def record(shape: Any, sharding: Any, read: Any) -> np.ndarray:
        part = read(tuple(slice(0, 1) for _ in shape))
        asked.append(part.shape)
        return part

    monkeypatch.setattr(jax, "make_array_from_callback", record)
    weights.load(folder, "vssflow", abstract())
    assert asked == [(1, 1), (), (1,), (1,)]


def test_a_folder_that_holds_something_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="imported is there already"):
        weights.save(folder, "vssflow", CONFIG, WEIGHTS)
    empty = tmp_path / "empty"
    empty.mkdir()
    weights.save(empty, "vssflow", CONFIG, WEIGHTS)
    weights.load(empty, "vssflow", abstract())


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, tensors: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(weights, "write_state_dict", fail)
    with pytest.raises(OSError, match="disk full"):
        weights.save(tmp_path / "imported", "vssflow", CONFIG, WEIGHTS)
    assert list(tmp_path.iterdir()) == []


def test_other_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of weights"):
        weights.load(tmp_path / "nowhere", "vssflow", abstract())
    with pytest.raises(UserError, match="holds weights of 'vssflow'; give a folder of 'hifigan'"):
        weights.load(folder, "hifigan", abstract())
    with pytest.raises(UserError, match=r"lacks weights: 'gate'"):
        weights.load(folder, "vssflow", abstract(WEIGHTS | {"gate": np.ones(2)}))
    with pytest.raises(UserError, match=r"has unknown weights: 'scale'"):
        weights.load(
            folder, "vssflow", abstract({"blocks": WEIGHTS["blocks"], "stages": WEIGHTS["stages"]})
        )
    with pytest.raises(UserError, match=r"'scale' has shape \(\), .* has \(3,\)"):
        weights.load(folder, "vssflow", abstract(WEIGHTS | {"scale": np.ones(3)}))


def test_numbers_that_are_not_finite_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    weights.save(broken, "vssflow", CONFIG, WEIGHTS | {"scale": np.float32(np.nan)})
    with pytest.raises(UserError, match=r"'scale' of .*weights\.safetensors holds 1 numbers of 1"):
        weights.load(broken, "vssflow", abstract())


def test_a_damaged_folder_is_refused(folder: Path) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"weights\.safetensors .* ends within"):
        weights.load(folder, "vssflow", abstract())
    (folder / "config.json").write_text(json.dumps({"layers": 3}))
    with pytest.raises(UserError, match="something else"):
        weights.load(folder, "vssflow", abstract())
