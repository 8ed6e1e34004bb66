"""Weights of earlier versions, made by hand here as those versions had them."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, traverse_util
from jax.sharding import PartitionSpec

from tests import tiny
from tests.helpers import tiny_model_config
from vssflow_jax.models import convert_vssflow, earlier
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder

Weights = dict[str, Any]


def as_before(weights: Weights) -> Weights:
    """Nested weights as versions had them whose attention had matrices and no axis of heads."""
    flat = traverse_util.flatten_dict(weights, sep=".")
    there = {}
    for name, value in flat.items():
        head, _, leaf = name.rpartition(".")
        if leaf in ("q_dhk", "k_egk", "v_egk"):
            layers, width, heads, head_dim = value.shape
            there[f"{head}.{leaf[0]}.w_io"] = value.reshape(layers, width, heads * head_dim)
        elif leaf == "out_hkd":
            layers, heads, head_dim, width = value.shape
            there[f"{head}.out.w_io"] = value.reshape(layers, heads * head_dim, width)
        elif ".ffw.value" in name:
            gate = flat[name.replace("value", "gate")]
            there[name.replace("value", "inner")] = np.stack([value, gate], axis=-2)
        elif ".ffw.out" in name:
            there[name.replace("ffw.out", "ffw.outer")] = value
        elif ".ffw.gate" not in name:
            name = name.replace("projectors.visual", "projectors.clip")
            name = name.replace("projectors.sync.", "projectors.synch.")
            name = name.replace("inputs.sync.", "inputs.synch.")
            there[name] = value
    return traverse_util.unflatten_dict(there, sep=".")


def random_like(tree: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), tree)


def assert_same(found: Any, wanted: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.fixture(scope="module")
def cfg() -> ModelConfig:
    return tiny_model_config("lip_synch_text", "float32")


@pytest.fixture(scope="module")
def abstract(cfg: ModelConfig) -> Weights:
    return nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: VSSFlow(cfg, rngs=nnx.Rngs(0)))))


def test_the_earlier_layout_is_that_of_earlier_weights(abstract: Weights):
    before = as_before(random_like(abstract, 0))
    layout = earlier.layout(abstract)
    assert jax.tree.map(np.shape, before) == jax.tree.map(np.shape, layout)


def test_earlier_weights_become_todays(abstract: Weights):
    weights = random_like(abstract, 1)
    assert_same(earlier.upgrade(as_before(weights), abstract), weights)


def test_earlier_weights_lie_as_todays_do(tmp_path: Path):
    experiment = Experiment.from_config(tiny.config(tmp_path))
    sharding = experiment.mesh_rules.sharding("layers", "embed", "heads", "head_dim")
    leaf = jax.ShapeDtypeStruct((2, 12, 4, 8), jnp.float32, sharding=sharding)
    q = {"transformer": {"blocks": {"self_attention": {"q_dhk": leaf}}}}
    (there,) = jax.tree.leaves(earlier.layout(q))
    assert there.shape == (2, 12, 32)
    assert there.sharding.spec == PartitionSpec(*sharding.spec[:3])


def test_an_earlier_folder_of_weights_is_read(cfg: ModelConfig, abstract: Weights, tmp_path: Path):
    weights = random_like(abstract, 2)
    sizes = dataclasses.asdict(cfg)
    folder.save(tmp_path / "weights", convert_vssflow.KIND, sizes, as_before(weights))
    assert_same(convert_vssflow.load(tmp_path / "weights", cfg, abstract), weights)


def test_an_earlier_checkpoint_is_gone_on_from(tmp_path: Path):
    experiment = Experiment.from_config(tiny.config(tmp_path))
    state = random_like(experiment.abstract_state, 3)
    before = earlier_state(state)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(5, jax.tree.map(jnp.asarray, before), {"step": 5}, {})
    with Checkpoints(tmp_path) as checkpoints:
        restored, progress = checkpoints.restore(experiment.abstract_state)
    assert progress == {"step": 5}
    assert_same(restored, state)
    parts = {"params": experiment.abstract_state.params}
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore(parts)[0], {"params": state.params})


def test_an_earlier_checkpoint_of_another_model_is_one_clear_line(tmp_path: Path):
    experiment = Experiment.from_config(tiny.config(tmp_path))
    state = jax.tree.map(jnp.asarray, earlier_state(random_like(experiment.abstract_state, 4)))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state, {}, {})
    wider = Experiment.from_config(tiny.config(tmp_path, model__transformer__layers=3))
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="does not fit"):
        checkpoints.restore(wider.abstract_state)


def earlier_state(state: Any) -> Any:
    """A state whose weights, averages and moments lie as in earlier versions."""

    def is_network(part: Any) -> bool:
        return isinstance(part, dict) and "transformer" in part

    return jax.tree.map(
        lambda part: as_before(part) if is_network(part) else part, state, is_leaf=is_network
    )
