"""Low-rank adapters: their sum, their gradients, and runs that train them alone."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from tests import tiny
from vssflow_jax.interop import export_weights
from vssflow_jax.models.lora import Lora
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.run.initial import initial_state
from vssflow_jax.train import setup
from vssflow_jax.utils.errors import UserError

RANK = 2
WEIGHTS = {
    "transformer": {
        "blocks": {
            "self_attention": {"q_dhk": (3, 6, 2, 4), "out_hkd": (3, 2, 4, 6)},
            "norm1": {"scale_d": (3, 6)},
        }
    },
    "output": {"w_io": (6, 5), "b_o": (5,)},
}
ADAPTED = {
    "train__lora__rank": RANK,
    "train__lora__targets": ("self_attention", "ffw.out"),
    "train__ema_decay": 0.9,
}


def random_like(shapes: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=getattr(shape, "shape", shape)), jnp.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def test_the_sum_is_that_of_the_paper():
    weights = random_like(WEIGHTS, 0)
    lora = Lora(RANK, 3.0, ("attention", "output"))
    adapters = random_like(lora.abstract(shapes_of(weights)), 1)
    flat = traverse_util.flatten_dict(lora.merged(weights, adapters), sep=".")
    before = traverse_util.flatten_dict(weights, sep=".")
    parts = traverse_util.flatten_dict(adapters, sep=".")
    products = {
        "transformer.blocks.self_attention.q_dhk": "ldr,lrhk->ldhk",
        "transformer.blocks.self_attention.out_hkd": "lhkr,lrd->lhkd",
        "output.w_io": "ir,ro->io",
    }
    assert {name.rpartition(".")[0] for name in parts} == set(products)
    for name, whole in flat.items():
        wanted = np.asarray(before[name], np.float64)
        if name in products:
            down, up = (np.asarray(parts[f"{name}.lora_{x}"], np.float64) for x in "ab")
            wanted = wanted + 3.0 / RANK * np.einsum(products[name], down, up)
        np.testing.assert_allclose(whole, wanted, rtol=1e-5, atol=1e-6)


def shapes_of(weights: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights)


def test_new_adapters_add_nothing():
    weights = random_like(WEIGHTS, 0)
    lora = Lora(RANK, 3.0, ("self_attention",))
    adapters = lora.init(jax.random.key(0), lora.abstract(shapes_of(weights)))
    jax.tree.map(np.testing.assert_array_equal, lora.merged(weights, adapters), weights)
    down = adapters["transformer"]["blocks"]["self_attention"]["out_hkd"]["lora_a"]
    assert np.std(down) == pytest.approx(8**-0.5, rel=0.3)


def test_an_unknown_target_is_one_clear_line():
    with pytest.raises(UserError, match=r"has 'mlp', .* choose from .*self_attention\.q_dhk"):
        Lora(RANK, 1.0, ("mlp",)).abstract(shapes_of(random_like(WEIGHTS, 0)))


@pytest.fixture(scope="module")
def base(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("base")
    tiny.train(tiny.config(demo_data, train__steps=2), workdir)
    return workdir


def adapted(data: Path, base: Path, **changes: Any) -> Any:
    return tiny.config(data, train__init_from=str(base), **{**ADAPTED, **changes})


def weights_at(config: Any, workdir: Path) -> tuple[Any, Any, Any]:
    experiment = Experiment.from_config(config)
    with Checkpoints(workdir) as checkpoints:
        state, _ = checkpoints.restore(experiment.abstract_state)
    return experiment, state, experiment.weights(state.params, state.frozen)


def test_a_run_trains_adapters_alone_and_goes_on_alike(demo_data: Path, base: Path, tmp_path: Path):
    at_once, in_turn = tmp_path / "once", tmp_path / "turn"
    tiny.train(adapted(demo_data, base, train__steps=4), at_once)
    for steps in (2, 4):
        tiny.train(adapted(demo_data, base, train__steps=steps), in_turn)
    found = [weights_at(adapted(demo_data, base), workdir) for workdir in (at_once, in_turn)]
    jax.tree.map(np.testing.assert_array_equal, found[0][1], found[1][1])
    rows = [(workdir / "metrics.jsonl").read_text() for workdir in (at_once, in_turn)]
    assert rows[0] == rows[1]

    _, state, weights = found[0]
    start = initial_state(
        Experiment.from_config(tiny.config(demo_data, train__init_from=str(base)))
    )
    before = traverse_util.flatten_dict(start.params, sep=".")
    after = traverse_util.flatten_dict(weights, sep=".")
    for name, value in before.items():
        same = np.array_equal(value, after[name])
        target = ("self_attention" in name and "norm" not in name) or name.endswith("ffw.out.w_io")
        assert same != target, name
    trained = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert trained < 0.2 * sum(leaf.size for leaf in jax.tree.leaves(state.frozen))
    # Moments and the running mean are of the adapters alone.
    assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state)) < 2.1 * trained
    assert sum(leaf.size for leaf in jax.tree.leaves(state.ema)) == trained


def test_adapters_travel_alone_and_whole(demo_data: Path, base: Path, tmp_path: Path):
    workdir = tmp_path / "run"
    config = adapted(demo_data, base, train__steps=3)
    tiny.train(config, workdir)
    _, state, _ = weights_at(config, workdir)
    adapters, lora = export_weights.adapters_of_run(str(workdir), "params")
    jax.tree.map(np.testing.assert_array_equal, adapters, state.params)
    lora.write(tmp_path / "adapters.safetensors", adapters)

    # Alone: a new run starts from them.
    again = adapted(demo_data, base, train__lora__path=str(tmp_path / "adapters.safetensors"))
    started = initial_state(Experiment.from_config(setup.prepare(again, tmp_path / "again")))
    jax.tree.map(np.testing.assert_array_equal, started.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, started.frozen, state.frozen)
    other = adapted(demo_data, base, train__lora__path=again.train.lora.path, train__lora__rank=1)
    with pytest.raises(UserError, match=r"have rank = 2, the config's train\.lora\.rank is 1"):
        initial_state(Experiment.from_config(other))

    # Whole: exported, and as what another run starts from.
    merged, _, _ = export_weights.of_run(str(workdir), "params")
    later = tiny.config(demo_data, train__init_from=str(workdir), train__init_weights="params")
    whole = initial_state(Experiment.from_config(later))
    flat = traverse_util.flatten_dict(merged)
    for name, value in traverse_util.flatten_dict(whole.params).items():
        np.testing.assert_allclose(value, flat[name], rtol=1e-6, atol=1e-7)


def test_adapters_need_something_to_be_added_to(demo_data: Path, tmp_path: Path):
    config = tiny.config(demo_data, train__lora__rank=2)
    with pytest.raises(UserError, match=r"name a run or weights .*--config\.train\.init_from"):
        setup.prepare(config, tmp_path)
