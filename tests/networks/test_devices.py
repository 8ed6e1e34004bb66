"""All networks: under jit, in bfloat16, on eight devices, for TPUs and for CUDA."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests import tiny
from tests.networks import small
from tests.parity.golden import FORWARD, compare
from vssflow_jax.networks import spread
from vssflow_jax.networks.published import NETWORKS
from vssflow_jax.plan.topologies import compile_options

CHIPS = 4
ROUNDED = 0.02  # by how much features change in bfloat16


@pytest.fixture(scope="module")
def chips() -> Sequence[jax.Device]:
    """Four TPU chips, on paper."""
    with pytest.MonkeyPatch.context() as patch:
        # Or libtpu takes every other process that loads it for a rival for its TPUs.
        patch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices


def relative(change: jax.Array, whole: jax.Array) -> float:
    return float(jnp.linalg.norm(change) / jnp.linalg.norm(whole))


@pytest.mark.parametrize("kind", small.CASES)
def test_jit_changes_nothing_and_bfloat16_little(kind: str) -> None:
    network: Any = small.network(kind)
    inputs = small.examples(kind, 2)
    plain = small.joined(network(inputs))
    assert plain.dtype == jnp.float32
    jitted = nnx.jit(lambda network, x: small.joined(network(x)))(network, inputs)
    row = compare(kind, jitted, plain, FORWARD)
    assert row.ok, row
    rounded = nnx.jit(lambda network, x: small.joined(network(x, jnp.bfloat16)))(network, inputs)
    assert rounded.dtype == jnp.float32
    assert 0 < relative(rounded - plain, plain) < ROUNDED


@pytest.mark.parametrize("kind", small.CASES)
def test_examples_do_not_know_one_another(kind: str) -> None:
    network: Any = small.network(kind)
    inputs = small.examples(kind, 3)
    found, wanted = (small.joined(network(x)) for x in (inputs, inputs[1:]))
    row = compare(kind, found[1:], wanted, FORWARD)
    assert row.ok, row


def test_eight_devices_agree_with_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.networks.eight_devices", f"{tmp_path}/out.npz"]
    done = tiny.run(command, env=tiny.EIGHT_DEVICES)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "out.npz")
    for kind in small.CASES:
        row = compare(kind, found[f"{kind}/spread"], found[f"{kind}/alone"], FORWARD)
        assert row.ok, row


def function_and_inputs(kind: str, chips: Sequence[jax.Device]) -> tuple[Any, tuple[Any, ...]]:
    """A network in its published sizes, and rows spread over chips, shapes only."""
    published = NETWORKS[kind]
    definition, state = nnx.split(published.make(published.config()))
    mesh = Mesh(np.array(chips), ("data",))

    def on(leaf: Any, *axes: str) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    rows = jax.ShapeDtypeStruct(
        (len(chips), *small.CASES[kind].published_shape),
        jnp.float32 if kind in ("rawnet3", "utmos", "audiobox", "nisqa", "passt") else jnp.uint8,
    )
    frames = [jax.ShapeDtypeStruct((len(chips),), jnp.int32)] if kind == "av_hubert" else []
    apply = jax.jit(spread.function(kind, definition, "bfloat16"))
    return apply, (jax.tree.map(on, state), *(on(x, "data") for x in (rows, *frames)))


@pytest.mark.parametrize("kind", small.CASES)
def test_compiles_for_tpus_and_nothing_travels(kind: str, chips: Sequence[jax.Device]) -> None:
    function, inputs = function_and_inputs(kind, chips)
    options = compile_options("tpu", counting=False)  # quick to compile rather than quick to run
    text = function.lower(*inputs).compile(compiler_options=options).as_text()
    assert text.startswith("HloModule")
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert f" {collective}(" not in text


@pytest.mark.parametrize("kind", small.CASES)
def test_lowers_for_cuda(kind: str, chips: Sequence[jax.Device]) -> None:
    # Chips lend their number only: what is lowered says nothing of what they are.
    function, inputs = function_and_inputs(kind, chips)
    exported = jax.export.export(function, platforms=["cuda"])(*inputs)
    assert exported.platforms == ("cuda",)
    assert exported.nr_devices == CHIPS
