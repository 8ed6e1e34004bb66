"""Attention by XLA against plain NumPy, and the TPU kernels, interpreted, against XLA's.

Kernels are interpreted in a process of its own, which simulates eight devices:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.models.test_attention OUT
"""

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax import nnx
from jax.experimental import pallas

from tests import tiny
from vssflow_jax.models import short_attention
from vssflow_jax.models.attention import Attend, check, fastest
from vssflow_jax.models.layers import RopeTables, rope_tables
from vssflow_jax.models.transformer import TransformerConfig
from vssflow_jax.parallel.sharding import STRATEGIES, MeshRules, make_mesh_rules
from vssflow_jax.plan.topologies import Topology
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.utils.errors import UserError

KERNELS = ("tpu_flash", "tpu_splash", "tpu_short")


@dataclasses.dataclass(frozen=True)
class Case:
    """Sizes of an attention, by the letters of `vssflow_jax.models.attention`; what is rotated."""

    n: int
    s: int
    valid: int
    h: int
    g: int
    k: int
    dtype: str = "float32"
    b: int = 2
    rotated: str = ""


CASES = {
    "short": Case(n=6, s=7, valid=7, h=2, g=2, k=8),
    "demo": Case(n=76, s=76, valid=76, h=4, g=4, k=48),
    "shared heads, padded": Case(n=5, s=133, valid=130, h=4, g=2, k=32),
    "several blocks": Case(n=520, s=600, valid=530, h=2, g=1, k=16),
    "wide heads": Case(n=6, s=7, valid=5, h=2, g=1, k=144),
    "half precision": Case(n=76, s=80, valid=76, h=4, g=2, k=48, dtype="bfloat16"),
    "whole lanes": Case(n=76, s=76, valid=70, h=8, g=8, k=32, rotated="queries keys"),
    "whole lanes, shared heads": Case(n=33, s=90, valid=80, h=8, g=2, k=64, rotated="queries"),
    "whole lanes, half precision": Case(
        n=32, s=64, valid=64, h=4, g=2, k=64, dtype="bfloat16", rotated="queries keys"
    ),
}
SPREAD = Case(n=6, s=7, valid=5, h=16, g=8, k=32, rotated="queries keys")


def attend(
    case: Case, implementation: str = "xla", mesh_rules: MeshRules | None = None
) -> dict[str, np.ndarray]:
    """What comes out for random arrays, and the gradients of a random sum of it."""
    q, k, v, probe = arrays(case)

    def total(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        mixed = Attend(implementation, mesh_rules)(q, k, v, case.valid, *tables(case))
        return jnp.sum(mixed.astype(jnp.float32) * probe), mixed

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))
    (dq, dk, dv), mixed = gradient(q, k, v)
    assert mixed.dtype == q.dtype
    found = {"mixed": mixed, "dq": dq, "dk": dk, "dv": dv}
    return {name: np.asarray(x, np.float32) for name, x in found.items()}


def tables(case: Case) -> list[RopeTables | None]:
    """By which queries and keys are rotated."""
    tokens = {"queries": case.n, "keys": case.s}
    return [rope_tables(n, case.k) if x in case.rotated else None for x, n in tokens.items()]


def arrays(case: Case) -> list[jax.Array]:
    """q [b, n, h, k], k and v [b, s, g, k], and as many numbers as come out [b, n, h, k]."""
    rng = np.random.default_rng(0)
    queries, keys = (case.b, case.n, case.h, case.k), (case.b, case.s, case.g, case.k)
    drawn = [jnp.asarray(rng.normal(size=shape)) for shape in (queries, keys, keys, queries)]
    return [x.astype(case.dtype) for x in drawn]


def by_hand(case: Case) -> np.ndarray:
    """One row and one query head at a time."""
    q, k, v, _ = (np.asarray(x, np.float64) for x in arrays(case))
    mixed = np.zeros_like(q)
    for row in range(case.b):
        for head in range(case.h):
            shared = head // (case.h // case.g)
            keys, values = k[row, : case.valid, shared], v[row, : case.valid, shared]
            weights = np.exp(q[row, :, head] @ keys.T / np.sqrt(case.k))
            mixed[row, :, head] = weights / weights.sum(axis=1, keepdims=True) @ values
    return mixed


def spread_layout() -> MeshRules:
    """Rows, tokens and heads over two devices each."""
    section = tiny.sharding_config("mine", fsdp=2, tensor=2, sequence=2)
    rules = {"tokens": "sequence", "heads": "tensor", "kv_heads": "tensor"}
    section.strategies = ml_collections.ConfigDict({"mine": {"rules": rules}})
    return make_mesh_rules(section)


def main(out: Path) -> None:
    """Save what every implementation makes of the cases, and of one that is spread out."""
    compiled = pallas.pallas_call

    def interpreted(*args: Any, **kwargs: Any) -> Any:
        return compiled(*args, **{**kwargs, "interpret": True})

    pallas.pallas_call = interpreted
    for kernel in KERNELS:
        for name, case in CASES.items():
            np.savez(out / f"{kernel}, {name}.npz", **attend(case, kernel))
    for implementation in ("xla", *KERNELS):
        spread = attend(SPREAD, implementation, spread_layout())
        np.savez(out / f"{implementation}, spread.npz", **spread)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `main` leaves."""
    out = tmp_path_factory.mktemp("attention")
    finished = tiny.run(
        [sys.executable, "-m", "tests.models.test_attention", str(out)], env=tiny.EIGHT_DEVICES
    )
    assert finished.returncode == 0, finished.stderr
    return out


def assert_close(found: Any, wanted: dict[str, np.ndarray], tolerance: float) -> None:
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("name", ["short", "demo", "shared heads, padded", "several blocks"])
def test_attention_is_what_it_is_by_hand(name: str):
    np.testing.assert_allclose(attend(CASES[name])["mixed"], by_hand(CASES[name]), atol=1e-5)


def test_padding_is_as_good_as_not_there():
    padded = CASES["shared heads, padded"]
    q, k, v, _ = arrays(padded)
    kept = slice(padded.valid)
    alone = Attend()(q, k[:, kept], v[:, kept], padded.valid)
    for rubbish in (0.0, 1e3):
        filled = (x.at[:, padded.valid :].set(rubbish) for x in (k, v))
        np.testing.assert_allclose(Attend()(q, *filled, padded.valid), alone, atol=1e-6)
    gradients = attend(padded)
    for name in ("dk", "dv"):
        assert np.abs(gradients[name][:, kept]).max() > 0.01
        np.testing.assert_array_equal(gradients[name][:, padded.valid :], 0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_with_xla(saved: Path, kernel: str, name: str):
    case = CASES[name]
    tolerance = 1e-5 if case.dtype == "float32" else 0.02
    assert_close(np.load(saved / f"{kernel}, {name}.npz"), attend(case), tolerance)


def test_what_the_short_kernel_is_for():
    def fits(case: Case) -> bool:
        q, k, _, _ = arrays(case)
        return short_attention.fits(q, k)

    assert [name for name, case in CASES.items() if fits(case)] == [
        name for name in CASES if name.startswith("whole lanes")
    ]
    one = CASES["whole lanes"]
    assert not fits(dataclasses.replace(one, s=513))


@pytest.mark.parametrize("implementation", ["xla", *KERNELS])
def test_devices_share_rows_tokens_and_heads_out(saved: Path, implementation: str):
    assert_close(np.load(saved / f"{implementation}, spread.npz"), attend(SPREAD), 1e-5)


def devices_of(platform: str, capability: str = "", **rules: tuple[str, ...]) -> MeshRules:
    """As much of a layout as is looked at, of devices that are not here."""
    device = SimpleNamespace(platform=platform, compute_capability=capability)
    mesh: Any = SimpleNamespace(devices=np.array([device]))
    return MeshRules(mesh, {**STRATEGIES["fsdp_tp"].rules, **rules})


@pytest.mark.parametrize(
    ("implementation", "platform"),
    [
        ("xla", "cpu"),
        ("xla", "gpu"),
        ("cudnn", "gpu"),
        ("tpu_flash", "tpu"),
        ("tpu_splash", "tpu"),
        ("tpu_short", "tpu"),
    ],
)
def test_an_implementation_suits_its_platform(implementation: str, platform: str):
    check(implementation, devices_of(platform), "bfloat16", 64)


@pytest.mark.parametrize(
    ("implementation", "mesh_rules", "dtype", "head_dim", "message"),
    [
        ("cudnn", devices_of("cpu"), "bfloat16", 64, "'cudnn', .* GPUs, .* are CPUs; .*=auto"),
        ("cudnn", devices_of("tpu"), "bfloat16", 64, "'cudnn', .* GPUs, .* are TPUs"),
        ("tpu_flash", devices_of("cpu"), "float32", 64, "'tpu_flash', .* TPUs, .* are CPUs"),
        ("tpu_splash", devices_of("gpu"), "float32", 64, "'tpu_splash', .* TPUs, .* are GPUs"),
        ("cudnn", devices_of("gpu"), "float32", 64, "bfloat16, but model.dtype is 'float32'"),
        ("cudnn", devices_of("gpu"), "bfloat16", 36, "head_dim .* a multiple of 8 .*, not 36"),
        ("cudnn", devices_of("gpu"), "bfloat16", 136, "head_dim .* up to 128, not 136"),
        ("tpu_flash", devices_of("tpu", kv_heads=()), "float32", 64, "on the same mesh axes"),
    ],
)
def test_an_implementation_that_cannot_run_is_one_clear_line(
    implementation: str, mesh_rules: MeshRules, dtype: str, head_dim: int, message: str
):
    with pytest.raises(UserError, match=message) as failure:
        check(implementation, mesh_rules, dtype, head_dim)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "name"),
    [
        ("cpu", "", "bfloat16", "xla"),
        ("tpu", "", "float32", "tpu_short"),
        ("gpu", "9.0", "bfloat16", "cudnn"),
        ("gpu", "9.0", "float32", "xla"),
        ("gpu", "7.5", "bfloat16", "xla"),  # before Ampere
        ("gpu", "gfx942", "bfloat16", "xla"),  # AMD's
        ("gpu", "", "bfloat16", "xla"),
    ],
)
def test_auto_suits_the_devices(platform: str, capability: str, dtype: str, name: str):
    assert fastest(devices_of(platform, capability), dtype, 64) == name


def test_auto_is_xla_where_heads_are_laid_out_in_two_ways():
    assert fastest(devices_of("tpu", kv_heads=()), "float32", 64) == "xla"


@pytest.mark.parametrize(("strategy", "tokens"), [("fsdp", 256), ("sp", 256)])
def test_what_is_left_to_tpus_suits_them(strategy: str, tokens: int):
    topology = Topology.parse("v5e:2x4")
    topology.prepare()
    config = tiny.config(Path("unused"))
    config.sharding = tiny.sharding_config(strategy)
    config.model.transformer.update(heads=8, kv_heads=8)
    assert (config.model.transformer.attention, config.model.transformer.token_multiple) == (
        "auto",
        0,
    )
    chosen = Experiment.from_config(config, devices=topology.devices()).model.transformer
    assert (chosen.attention, chosen.tokens(75)) == ("tpu_short", tokens)
    assert chosen.remat == "products"


@pytest.mark.parametrize(("strategy", "tokens"), [("fsdp", 76), ("sp", 80)])
def test_what_is_left_to_cpus_suits_them(strategy: str, tokens: int):
    rules = SimpleNamespace(
        mesh=devices_of("cpu").mesh, axis_size=lambda axis: 8 if strategy == "sp" else 1
    )
    chosen = TransformerConfig().fitted(cast(MeshRules, rules), "bfloat16")
    assert (chosen.attention, chosen.tokens(75)) == ("xla", tokens)
    assert chosen.remat == "none"


def test_clips_taken_by_themselves_are_left_to_the_compiler():
    config = tiny.config(Path("unused"), model__transformer__attention="xla")
    experiment = Experiment.from_config(config)
    kernel = dataclasses.replace(experiment.model.transformer, attention="tpu_flash")
    model = dataclasses.replace(experiment.model, transformer=kernel)
    network = dataclasses.replace(experiment, model=model).unplaced_network
    shapes = nnx.merge(network.definition, network.trained, network.frozen)
    attend = shapes.transformer.blocks.self_attention.attend
    assert (attend.implementation, attend.mesh_rules) == ("xla", None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
