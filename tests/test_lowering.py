"""The demo's train step and sampler, compiled for TPUs and lowered for CUDA with neither here.

`tests/test_attention.py` shows that what is compiled here computes the right thing.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from configs import demo
from tests import tiny
from vssflow_jax.flow.sampler import Sampler
from vssflow_jax.generate.sampler import draw_start, make_generate
from vssflow_jax.models.attention import Attend
from vssflow_jax.parallel.sharding import make_mesh_rules
from vssflow_jax.plan.topologies import compile_options
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.train.step import jit_train_step
from vssflow_jax.utils.errors import UserError

CLIPS = 8
# Programs of kernels in each of the two attentions of a block: forwards, and for the gradients of
# queries, keys and values one or two.
SAMPLER_KERNELS = 2 * 1
# JAX's flash attention is not seen to be a kernel, and so run again for the backward pass.
STEP_KERNELS = {"xla": 0, "tpu_flash": 2 * 4, "tpu_splash": 2 * 3, "tpu_short": 2 * 2}

CUDNN_CALLS = ("__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward")

FSDP = ("fsdp", {})
FSDP_TP = ("fsdp_tp", {"fsdp": 2, "tensor": 2})
SP = ("sp", {"fsdp": 2, "sequence": 2})
COMBINATIONS = [
    ("xla", *FSDP),
    ("tpu_flash", *FSDP),
    ("tpu_splash", *FSDP_TP),
    ("tpu_short", *FSDP),
    ("tpu_short", *FSDP_TP),
    ("tpu_short", *SP),
]


@pytest.fixture(scope="module")
def chips() -> Sequence[jax.Device]:
    """Four TPU chips, on paper."""
    with pytest.MonkeyPatch.context() as patch:
        # Or libtpu takes every other process that loads it for a rival for its TPUs.
        patch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices


def demo_recipe(
    attention: str, strategy: str, mesh: dict[str, int], devices: Sequence[jax.Device]
) -> Experiment:
    """The demo, whole, except that its blocks are a loop, which compiles sooner."""
    config = demo.get_config()
    config.model.transformer.update(attention=attention, unroll=1)
    if attention == "tpu_short":  # Heads of two devices fill the lanes.
        config.model.transformer.update(heads=8, kv_heads=4, head_dim=64)
    config.sharding = tiny.sharding_config(strategy, **mesh)
    return Experiment.from_config(config, devices=devices)


def step_and_inputs(experiment: Experiment, latents: str) -> tuple[Any, tuple[Any, ...]]:
    return jit_train_step(experiment), (
        experiment.abstract_state,
        experiment.abstract_batch(CLIPS, latents),
    )


def sampler_and_inputs(experiment: Experiment) -> tuple[Any, tuple[Any, ...]]:
    batch = experiment.abstract_batch(CLIPS)
    del batch["waveform"]
    start = jax.eval_shape(lambda: draw_start(experiment, 0, ["clip"] * CLIPS))
    generate = make_generate(experiment, Sampler.from_config(demo.get_config().eval.sampler))
    return generate, (experiment.abstract_state.averaged, batch, start)


def compiled_text(function: Any, inputs: tuple[Any, ...]) -> str:
    options = compile_options("tpu", counting=False)  # quick to compile rather than quick to run
    return function.lower(*inputs).compile(compiler_options=options).as_text()


def kernels_in(text: str) -> int:
    """Kernels but XLA's own, which takes a softmax between two products for one."""
    calls = (line for line in text.splitlines() if "tpu_custom_call" in line)
    return sum("online-softmax" not in line for line in calls)


@pytest.mark.parametrize(("attention", "strategy", "mesh"), COMBINATIONS)
def test_train_step_compiles_for_tpus(chips, attention: str, strategy: str, mesh: dict[str, int]):
    experiment = demo_recipe(attention, strategy, mesh, chips)
    # With the sounds once; their spectra take longer to compile than all the rest.
    latents = "online" if attention == "xla" else "offline"
    text = compiled_text(*step_and_inputs(experiment, latents))
    assert kernels_in(text) == STEP_KERNELS[attention]
    assert " all-gather(" in text  # weights
    assert "reduce-scatter" in text  # their gradients


@pytest.mark.parametrize(("attention", "strategy", "mesh"), COMBINATIONS)
def test_sampler_compiles_for_tpus(chips, attention: str, strategy: str, mesh: dict[str, int]):
    experiment = demo_recipe(attention, strategy, mesh, chips)
    text = compiled_text(*sampler_and_inputs(experiment))
    assert kernels_in(text) == (0 if attention == "xla" else SAMPLER_KERNELS)
    assert " all-gather(" in text


@pytest.mark.parametrize(
    ("kernel", "tokens", "kernels"),
    [
        ("tpu_flash", (1100, 1024), 3),
        ("tpu_splash", (1100, 1024), 3),
        ("tpu_short", (512, 512), 1),  # What comes out is not asked for.
    ],
)
def test_the_largest_blocks_fit_a_core(chips, kernel: str, tokens: tuple[int, int], kernels: int):
    place = jax.sharding.SingleDeviceSharding(chips[0])
    q, k = (
        jax.ShapeDtypeStruct((1, count, heads, 128), jnp.float32, sharding=place)
        for count, heads in zip(tokens, (4, 2), strict=True)
    )

    def total(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(Attend(kernel)(q, k, v, tokens[1] - 24))

    text = compiled_text(jax.jit(jax.grad(total, argnums=(0, 1, 2))), (q, k, k))
    assert kernels_in(text) == kernels


def test_train_step_and_sampler_lower_for_cuda(chips):
    # Chips lend their number only: what is lowered says nothing of what they are.
    experiment = demo_recipe("xla", *FSDP, chips)
    for function, inputs in (step_and_inputs(experiment, "online"), sampler_and_inputs(experiment)):
        exported = jax.export.export(function, platforms=["cuda"])(*inputs)
        assert exported.platforms == ("cuda",)
        assert exported.nr_devices == len(chips)


@pytest.fixture
def cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the library, which is only asked for its version."""
    asks = "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version"
    monkeypatch.setattr(asks, lambda: 91000)


def for_cuda_with_cudnn(function: Any, inputs: tuple[Any, ...]) -> str:
    """What a function is lowered to for CUDA."""
    checks = [jax.export.DisabledSafetyCheck.custom_call(call) for call in CUDNN_CALLS]
    export = jax.export.export(function, platforms=["cuda"], disabled_checks=checks)
    return export(*inputs).mlir_module()


@pytest.mark.usefixtures("cudnn")
@pytest.mark.parametrize("spread", [False, True])
def test_cudnn_lowers_where_its_library_is(chips, spread: bool):
    strategy, mesh = SP
    mesh_rules = make_mesh_rules(tiny.sharding_config(strategy, **mesh), chips) if spread else None
    q, k = (
        jax.ShapeDtypeStruct(
            (4, 256, heads, 64), jnp.bfloat16, sharding=mesh_rules and mesh_rules.batch
        )
        for heads in (4, 2)
    )

    def total(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(Attend("cudnn", mesh_rules)(q, k, v, 251).astype(jnp.float32))

    text = for_cuda_with_cudnn(jax.jit(jax.grad(total, argnums=(0, 1, 2))), (q, k, k))
    for call in CUDNN_CALLS:
        assert f"custom_call @{call}(" in text


@pytest.mark.usefixtures("cudnn")
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_train_step_with_cudnn_lowers_for_cuda(chips, remat: str):
    step, inputs = step_and_inputs(with_cudnn(demo_recipe("xla", *FSDP, chips), remat), "offline")
    text = for_cuda_with_cudnn(step, inputs)
    for call in CUDNN_CALLS:
        assert f"custom_call @{call}(" in text


@pytest.mark.usefixtures("cudnn")
def test_sampler_with_cudnn_lowers_for_cuda(chips):
    experiment = with_cudnn(demo_recipe("xla", *FSDP, chips), "none")
    assert f"custom_call @{CUDNN_CALLS[0]}(" in for_cuda_with_cudnn(*sampler_and_inputs(experiment))


def with_cudnn(experiment: Experiment, remat: str) -> Experiment:
    """The same in bfloat16 and with cuDNN's attention, whatever the devices."""
    model = experiment.model
    transformer = dataclasses.replace(model.transformer, attention="cudnn", remat=remat)
    model = dataclasses.replace(model, transformer=transformer, dtype="bfloat16")
    return dataclasses.replace(experiment, model=model)


def test_kernels_of_other_devices_are_refused(chips):
    with pytest.raises(UserError, match=r"'cudnn', which runs on GPUs, but the devices are TPUs"):
        demo_recipe("cudnn", *FSDP, chips)
    for attention in ("cudnn", "tpu_flash", "tpu_splash"):
        with pytest.raises(UserError, match=rf"'{attention}', .* but the devices are CPUs"):
            demo_recipe(attention, "dp", {}, jax.devices())
