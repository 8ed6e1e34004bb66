"""Optimizers against optax's own, which weights they see to, where their states lie; schedules."""

import math
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from flax import traverse_util

from configs import common
from tests import eight_optimizers, tiny
from vssflow_jax.models.parts import map_axes
from vssflow_jax.plan.memory import device_bytes
from vssflow_jax.run import optimizer
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.run.optimizer import AVERAGING, OPTIMIZERS, make_optimizer, make_schedule
from vssflow_jax.utils.errors import UserError

RATE = 0.01
LAYERS, WIDTH = 2, 48
SHAPES = {
    "transformer.blocks.self_attention.q_dhk": (LAYERS, WIDTH, 4, 16),
    "transformer.blocks.self_attention.out_hkd": (LAYERS, 4, 16, WIDTH),
    "transformer.blocks.ffw.value.w_io": (LAYERS, WIDTH, 96),
    "transformer.blocks.ffw.value.b_o": (LAYERS, 96),
    "transformer.blocks.norm1.scale_d": (LAYERS, WIDTH),
    "conditions.projectors.phonemes.table_vo": (200, 32),
    "input.w_io": (128, WIDTH),
}
MAPS = {name for name in SHAPES if name.rpartition(".")[2] in ("q_dhk", "out_hkd", "w_io")}
HIDDEN = MAPS - {"input.w_io"}
# A map as one matrix of each block.
MATRICES = {"q_dhk": (LAYERS, WIDTH, 64), "out_hkd": (LAYERS, 64, WIDTH), "w_io": None}


def section(**changes: Any) -> ml_collections.ConfigDict:
    """A `train` section with a constant rate from the start."""
    train = ml_collections.ConfigDict(common.train())
    train.update({"learning_rate": RATE, "warmup_steps": 0, "weight_decay": 0.0, **changes})
    return train


def drawn(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    leaves = {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in SHAPES.items()}
    return traverse_util.unflatten_dict(leaves, sep=".")


def flat(tree: Any) -> dict[str, Any]:
    return traverse_util.flatten_dict(tree, sep=".")


def steps(made: optax.GradientTransformation, params: Any, grads: list[Any]) -> tuple[Any, Any]:
    """Weights after gradients, and the state."""
    state = made.init(params)

    @jax.jit
    def step(params: Any, state: Any, grad: Any) -> tuple[Any, Any]:
        updates, state = made.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    for grad in grads:
        params, state = step(params, state, grad)
    return params, state


def assert_close(found: Any, expected: Any, rtol: float = 1e-5) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7), found, expected
    )


GRADS = [drawn(seed) for seed in (1, 2, 3)]


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("adamw", optax.adamw(RATE, b1=0.9, b2=0.999, weight_decay=0.0)),
        ("lion", optax.lion(RATE, b1=0.9, b2=0.999, weight_decay=0.0)),
        ("schedule_free_adamw", optax.contrib.schedule_free_adamw(RATE, b1=0.9, b2=0.999)),
    ],
)
def test_they_are_optaxs_own(name: str, peer: optax.GradientTransformation) -> None:
    found, _ = steps(make_optimizer(section(optimizer=name)), drawn(0), GRADS)
    assert_close(found, steps(peer, drawn(0), GRADS)[0])


def test_adafactor_is_optaxs_own() -> None:
    ours = make_optimizer(section(optimizer="adafactor", beta1=0.0))
    peer = optax.adafactor(RATE, min_dim_size_to_factor=32, multiply_by_parameter_scale=False)
    assert_close(steps(ours, drawn(0), GRADS)[0], steps(peer, drawn(0), GRADS)[0])


def test_muon_is_optaxs_own_on_each_matrix_of_each_block() -> None:
    found = flat(steps(make_optimizer(section(optimizer="muon")), drawn(0), GRADS)[0])
    muon = optax.contrib.muon(RATE, consistent_rms=0.2)
    for name in HIDDEN:
        shape = MATRICES[name.rpartition(".")[2]] or SHAPES[name]
        matrices = [flat(drawn(seed))[name].reshape(shape) for seed in (0, 1, 2, 3)]
        for layer in range(LAYERS):
            start, *grads = ({"w": matrix[layer]} for matrix in matrices)
            expected = steps(muon, start, grads)[0]["w"]
            np.testing.assert_allclose(
                found[name].reshape(shape)[layer], expected, rtol=1e-3, atol=1e-4
            )
    adamw = flat(steps(make_optimizer(section(optimizer="adamw")), drawn(0), GRADS)[0])
    for name in SHAPES.keys() - HIDDEN:
        np.testing.assert_allclose(found[name], adamw[name], rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_decays(name: str) -> None:
    still = [jax.tree.map(jnp.zeros_like, drawn(0))] * 2
    decaying = make_optimizer(section(optimizer=name, weight_decay=0.5))
    before, after = flat(drawn(0)), flat(steps(decaying, drawn(0), still)[0])
    moved = {leaf for leaf in before if not np.allclose(before[leaf], after[leaf], rtol=1e-5)}
    assert moved == (set(SHAPES) if name == "adamw" else MAPS)
    for leaf in moved:  # towards zero
        assert np.linalg.norm(after[leaf]) < np.linalg.norm(before[leaf])


def test_every_weight_of_two_sides_is_a_map_but_for_the_embedding(demo_data: Path) -> None:
    experiment = Experiment.from_config(tiny.config(demo_data))
    for name, leaf in flat(experiment.abstract_weights[0]).items():
        axes = map_axes(name, len(leaf.shape))
        own = len(leaf.shape) - name.startswith("transformer.blocks.")
        assert (axes is not None) == (own > 1 and not name.endswith("table_vo")), name
        if axes:
            assert sorted(axes[0] + axes[1]) == list(range(len(leaf.shape) - own, len(leaf.shape)))


def test_the_average_of_the_schedule_free_is_kept_as_the_mean() -> None:
    params, state = steps(make_optimizer(section(optimizer=AVERAGING[0])), drawn(0), GRADS)
    # x as the paper has it, of z_1, z_2, ... of equal weight; where the rate is constant.
    base = optax.chain(
        optax.scale_by_rms(0.999, 1e-8, eps_in_sqrt=False, bias_correction=True),
        optax.scale(-RATE),
    )
    z = x = y = drawn(0)
    inner = base.init(z)
    for number, grad in enumerate(GRADS, 1):
        updates, inner = base.update(grad, inner, y)
        z = optax.apply_updates(z, updates)
        x = jax.tree.map(lambda x, z, n=number: (1 - 1 / n) * x + z / n, x, z)
        y = jax.tree.map(lambda x, z: 0.9 * x + 0.1 * z, x, z)
    assert_close(optimizer.own_mean((optax.EmptyState(), state), params), x, rtol=1e-4)


# ------------------------------------------------------------------------------- where states lie
def experiment_of(name: str, **changes: Any) -> Experiment:
    own = {"train__ema_decay": 0.0, "train__schedule": "constant"} if name in AVERAGING else {}
    return Experiment.from_config(
        tiny.config(Path("unused"), train__optimizer=name, **own, **changes)
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_are_saved_and_restored(name: str, tmp_path: Path) -> None:
    experiment = experiment_of(name)
    params = jax.tree.map(lambda x: jnp.ones(x.shape), experiment.abstract_state.params)
    abstract = {"opt_state": experiment.abstract_state.opt_state}
    state = {"opt_state": jax.jit(experiment.optimizer.init)(params)}
    state = jax.tree.map(lambda x: x + 3, state)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state, {}, {})
    with Checkpoints(tmp_path) as checkpoints:
        found, _ = checkpoints.restore(abstract)
    jax.tree.map(np.testing.assert_array_equal, found, state)


def test_how_much_they_keep() -> None:
    sizes = {name: experiment_of(name).abstract_state for name in OPTIMIZERS}
    weights = device_bytes(sizes["adamw"].params)
    kept = {name: device_bytes(state.opt_state) / weights for name, state in sizes.items()}
    assert kept["adamw"] == pytest.approx(2, rel=1e-4)
    assert kept["lion"] == pytest.approx(1, rel=1e-4)
    assert kept["schedule_free_adamw"] == pytest.approx(2, rel=1e-4)
    assert 1 < kept["muon"] < 2
    assert 1 < kept["adafactor"] < 1.1
    without = experiment_of("adafactor", train__beta1=0.0).abstract_state
    assert device_bytes(without.opt_state) < 0.1 * weights
    assert device_bytes(sizes["schedule_free_adamw"].ema) == weights


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_losses_and_bytes_on_eight_devices(name: str, eight: Path) -> None:
    found = dict(np.load(eight / f"{name}.npz"))
    assert len(found["alone"]) == eight_optimizers.STEPS
    assert np.all(np.diff(found["alone"]) != 0)
    np.testing.assert_allclose(found["eight"], found["alone"], rtol=1e-5)
    assert found["held"] == found["planned"]


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("optimizers")
    command = [sys.executable, "-m", "tests.eight_optimizers", str(out)]
    done = tiny.run(command, tiny.EIGHT_DEVICES)
    assert done.returncode == 0, done.stderr
    return out


# -------------------------------------------------------------------------------------- schedules
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {10: 1.0, 60: 1.0, 110: 1.0, 200: 1.0}),
        ("linear", {10: 1.0, 60: 0.5, 110: 0.0, 200: 0.0}),
        ("cosine", {10: 1.0, 35: (1 + math.sqrt(0.5)) / 2, 60: 0.5, 110: 0.0, 200: 0.0}),
        ("wsd", {10: 1.0, 60: 1.0, 88: 1.0, 99: 0.5, 110: 0.0, 200: 0.0}),
    ],
)
def test_schedules(schedule: str, expected: dict[int, float]) -> None:
    train = section(
        schedule=schedule, learning_rate=1.0, warmup_steps=10, decay_steps=110, cooldown=0.2
    )
    found = make_schedule(train)
    assert [float(found(step)) for step in (0, 5)] == [0.0, 0.5]
    for step, rate in expected.items():
        assert float(found(step)) == pytest.approx(rate, abs=1e-6)
    assert optimizer.ends_at_zero(train, 110) == (schedule != "constant")


def test_a_long_cooldown_ends_at_zero_too() -> None:
    train = section(schedule="wsd", learning_rate=1.0, warmup_steps=10, decay_steps=50)
    train.cooldown = 1.0
    assert [float(make_schedule(train)(step)) for step in (10, 30, 50, 60)] == [1.0, 0.5, 0.0, 0.0]
    assert optimizer.ends_at_zero(train, 50)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ema_decay": 0.99}, "train.ema_decay is 0.99, but 'schedule_free_adamw' averages by"),
        ({"beta1": 0.0}, "train.beta1 is 0.0, but 'schedule_free_adamw' averages by itself"),
        ({"schedule": "wsd"}, "train.schedule is 'wsd', but 'schedule_free_adamw' is for a rate"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, Any], says: str) -> None:
    optimizer.check(section(optimizer="schedule_free_adamw"))
    optimizer.check(section(optimizer="muon", **changes))
    with pytest.raises(UserError, match=says):
        optimizer.check(section(optimizer="schedule_free_adamw", **changes))
