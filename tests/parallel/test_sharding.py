"""Meshes and rules, as far as one device can show; `tests/test_strategies.py` runs on eight.

Where each weight of the full-size model lies is kept in `shardings/STRATEGY.txt`. After a change
that means to move weights, `python -m tests.parallel.test_sharding` writes these files anew.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, PartitionSpec

from configs import demo, vssflow
from tests.tiny import sharding_config
from vssflow_jax.models.layers import Linear
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow
from vssflow_jax.parallel.sharding import (
    LOGICAL_AXES,
    MESH_AXES,
    STRATEGIES,
    WEIGHT_AXES,
    MeshRules,
    make_mesh_rules,
    mesh_shape,
    param_shardings,
    put_batch,
)
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.utils.errors import UserError


def on_paper(strategy: str, devices: int = 8, **given: int) -> MeshRules:
    """A layout of more devices than there are: shardings can be asked for, arrays not placed."""
    sizes = dict.fromkeys(MESH_AXES, 0) | given
    shape = mesh_shape(sizes, STRATEGIES[strategy], devices)
    return MeshRules(AbstractMesh(shape, MESH_AXES), STRATEGIES[strategy].rules)


@pytest.fixture(scope="module")
def weights() -> nnx.State:
    """Trained weights of the demo's network, shapes only."""
    config = ModelConfig.from_config(demo.get_config().model)
    network = nnx.eval_shape(lambda: VSSFlow(config, rngs=nnx.Rngs(0)))
    return nnx.state(network, nnx.Param)


def specs(weights: nnx.State, mesh_rules: MeshRules) -> dict[str, PartitionSpec]:
    """Weight name -> its spec."""
    leaves = jax.tree_util.tree_leaves_with_path(param_shardings(weights, mesh_rules))
    return {".".join(str(key.key) for key in path): leaf.spec for path, leaf in leaves}


@pytest.mark.parametrize("axis", ["data", "fsdp"])
def test_minus_one_takes_the_rest(axis: str):
    mesh_rules = make_mesh_rules(sharding_config("fsdp", **{"data": 1, "fsdp": 1, axis: -1}))
    assert mesh_rules.mesh.axis_names == MESH_AXES
    assert mesh_rules.mesh.shape[axis] == jax.device_count()
    assert mesh_rules.mesh.size == jax.device_count()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_is_one_word(strategy: str):
    assert make_mesh_rules(sharding_config(strategy)).mesh.size == jax.device_count()


@pytest.mark.parametrize(
    "given", [{"data": 3}, {"data": 3, "fsdp": -1}, {"data": -1, "fsdp": -1}, {"tensor": -2}]
)
def test_sizes_that_do_not_make_up_the_devices_are_one_clear_line(given: dict[str, int]):
    with pytest.raises(UserError, match=r"sharding\.mesh is data=.* does not make up") as failure:
        make_mesh_rules(sharding_config("fsdp", **given))
    for axis, size in given.items():
        assert f"{axis}={size}" in str(failure.value)


def test_an_unknown_strategy_is_one_clear_line():
    with pytest.raises(UserError, match=r"sharding\.strategy is 'zero'; choose one of: dp, fsdp"):
        make_mesh_rules(sharding_config("zero"))


def own_strategy(**strategy: Any) -> ml_collections.ConfigDict:
    section = sharding_config("mine")
    section.strategies = ml_collections.ConfigDict({"mine": strategy})
    return section


def test_a_config_may_bring_its_own_strategy():
    mesh_rules = make_mesh_rules(own_strategy(rules={"ffw": "fsdp tensor"}, mesh={"tensor": -1}))
    assert mesh_rules.sharding("embed", "ffw").spec == PartitionSpec(None, ("fsdp", "tensor"))
    assert mesh_rules.batch.spec == PartitionSpec(("data", "fsdp"))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"rules": {"width": "fsdp"}}, r"strategies\.mine\.rules names the axis 'width'; .*embed"),
        ({"rules": {"embed": "fdsp"}}, r"mine\.rules\.embed names the axis 'fdsp'; .*data, fsdp"),
        ({"mesh": {"model": 2}}, r"mine\.mesh names the axis 'model'; choose from: data, fsdp"),
    ],
)
def test_a_strategy_with_an_unknown_axis(strategy: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        make_mesh_rules(own_strategy(**strategy))


def test_rules_name_axes_that_exist():
    for strategy in STRATEGIES.values():
        assert set(strategy.rules) <= set(LOGICAL_AXES)
        assert {name for names in strategy.rules.values() for name in names} <= set(MESH_AXES)
        assert set(strategy.mesh) <= set(MESH_AXES)


def test_every_weight_declares_every_axis(weights: nnx.State):
    for path, weight in nnx.to_flat_state(weights):
        axes = weight.get_metadata()["out_sharding"]
        assert len(axes) == len(weight.shape), path
        assert set(axes) <= set(WEIGHT_AXES), path
        assert ("layers" in axes) == ("blocks" in path), path


def test_no_logical_axis_is_left_over(weights: nnx.State):
    used = {
        axis
        for _, weight in nnx.to_flat_state(weights)
        for axis in weight.get_metadata()["out_sharding"]
    }
    assert used == set(WEIGHT_AXES)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_shardings_fit_the_weights(weights: nnx.State, strategy: str):
    mesh_rules = make_mesh_rules(sharding_config(strategy))
    placed = param_shardings(weights, mesh_rules)
    pure = nnx.to_pure_dict(weights)
    assert jax.tree.structure(placed) == jax.tree.structure(pure)
    jax.tree.map(lambda weight, sharding: sharding.shard_shape(weight.shape), pure, placed)


def where_weights_lie(strategy: str) -> str:
    """A line for each trained weight of the full-size model: name, logical axes, mesh axes."""
    words = ("base", "base,placement=lip_synch_video_text")  # which has weights of its own
    lines = {}
    for word in words:
        config = ModelConfig.from_config(vssflow.get_config(word).model)
        network = nnx.eval_shape(lambda config=config: VSSFlow(config, rngs=nnx.Rngs(0)))
        abstract = nnx.state(network, nnx.Param)
        found = specs(abstract, on_paper(strategy))
        for path, weight in nnx.to_flat_state(abstract):
            name = ".".join(map(str, path))
            axes = " ".join(weight.get_metadata()["out_sharding"])
            lines[name] = f"{name}: [{axes}] {tuple(found[name])}\n"
    return "".join(lines[name] for name in sorted(lines))


GOLDEN = Path(__file__).with_name("shardings")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weights_lie_where_the_golden_file_says(strategy: str):
    assert where_weights_lie(strategy) == (GOLDEN / f"{strategy}.txt").read_text()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_optimizer_and_average_lie_as_the_weights_do(strategy: str):
    config = vssflow.get_config()
    config.train.ema_decay = 0.999
    config.codec.kind = "patch_dct"  # which has no weights to be found
    experiment = dataclasses.replace(Experiment.from_config(config), mesh_rules=on_paper(strategy))
    state = experiment.state_shardings
    adam = state.opt_state[0]
    for tree in (state.ema, adam.mu, adam.nu):
        assert tree == state.params


def test_a_large_weight_that_lies_whole_is_one_clear_line():
    shape, axes = (2**12, 2**11), ("features", "projector")
    network = nnx.eval_shape(lambda: Linear(shape, axes, rngs=nnx.Rngs(0)))
    wide = nnx.state(network, nnx.Param)
    mesh_rules = MeshRules(on_paper("tp").mesh, {"ffw": ("tensor",)})
    with pytest.raises(UserError, match=r"weight w_io: 8,388,608 numbers lie whole .*'features'"):
        param_shardings(wide, mesh_rules)
    param_shardings(wide, on_paper("dp"))  # which means to


def test_two_axes_on_one_mesh_axis_are_one_clear_line(weights: nnx.State):
    mesh_rules = MeshRules(on_paper("tp").mesh, {"embed": ("tensor",), "ffw": ("tensor",)})
    with pytest.raises(UserError, match=r"weight transformer\.blocks\.ffw\..* same mesh axis"):
        param_shardings(weights, mesh_rules)


def test_data_parallel_weights_are_whole(weights: nnx.State):
    for name, spec in specs(weights, on_paper("dp")).items():
        assert set(spec) <= {None}, name


def test_fsdp_splits_the_model_width(weights: nnx.State):
    found = specs(weights, on_paper("fsdp"))
    assert found["transformer.blocks.ffw.gate.w_io"] == PartitionSpec(None, "fsdp", None)
    assert found["transformer.blocks.ffw.out.w_io"] == PartitionSpec(None, None, "fsdp")
    queries = found["transformer.blocks.self_attention.q_dhk"]
    assert queries == PartitionSpec(None, "fsdp", None, None)
    assert found["transformer.time.outer.w_io"] == PartitionSpec(None, "fsdp")


def test_fsdp_leaves_little_whole(weights: nnx.State):
    placed = jax.tree.leaves(param_shardings(weights, on_paper("fsdp")))
    whole = split = 0
    for weight, sharding in zip(jax.tree.leaves(weights), placed, strict=True):
        if "fsdp" in sharding.spec:
            split += weight.size
        else:
            whole += weight.size
    assert whole < 0.1 * split


def test_a_width_that_does_not_divide_is_one_clear_line(weights: nnx.State):
    with pytest.raises(UserError, match=r"axis 'embed' of 192 .* 5 devices of mesh axis 'fsdp'"):
        param_shardings(weights, on_paper("fsdp", 5))


def test_clips_are_spread_over_data_and_fsdp_devices_only():
    mesh_rules = on_paper("fsdp_tp", 30, data=2, fsdp=3, tensor=5)
    assert mesh_rules.batch_devices == 6
    assert mesh_rules.batch.shard_shape((12, 7)) == (2, 7)
    assert mesh_rules.replicated.shard_shape((12, 7)) == (12, 7)


def test_a_batch_arrives_as_it_was():
    batch = {"lips": np.ones((2, 3, 4), np.float32), "phonemes": np.arange(6).reshape(2, 3)}
    mesh_rules = make_mesh_rules(sharding_config("dp"))
    placed = put_batch(batch, mesh_rules)
    assert set(placed) == set(batch)
    for name, value in batch.items():
        np.testing.assert_array_equal(placed[name], value)
        assert placed[name].sharding.is_equivalent_to(mesh_rules.batch, value.ndim)


if __name__ == "__main__":
    for name in STRATEGIES:
        (GOLDEN / f"{name}.txt").write_text(where_weights_lie(name))
