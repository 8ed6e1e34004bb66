"""Layers of frozen networks against PyTorch's, with weights brought over by the rules."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from tests.parity.golden import FORWARD, compare
from vssflow_jax.networks import convert, layers
from vssflow_jax.networks.convert import Names
from vssflow_jax.networks.layers import (
    Block,
    BlockConfig,
    Conv,
    Patches,
    adaptive_max_pool,
    max_pool,
)
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import mapping

D, HEADS, INNER = 24, 3, 40


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """With random weights and statistics."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.3 * torch.rand(tensor.shape, generator=generator)
    return module.eval()


def tensors_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def bring_over(module: nnx.Module, tensors: Mapping[str, np.ndarray], names: Names) -> None:
    """Give a module of ours the weights of PyTorch's."""
    state = nnx.to_pure_dict(nnx.state(module))
    rules = convert.rules(state, names)
    made, _ = mapping.convert(
        rules, tensors, state, expected_left_over=convert.counters(tensors.keys())
    )
    nnx.update(module, made)


def assert_same(ours: Any, theirs: torch.Tensor) -> None:
    row = compare("output", ours, theirs.detach().numpy(), FORWARD)
    assert row.ok, row


def one_module(module: nnx.Module, theirs: torch.nn.Module) -> None:
    """`bring_over` for a module that is a layer by itself."""
    holder = nnx.List([module])
    tensors = {f"layer.{name}": tensor for name, tensor in tensors_of(theirs).items()}
    bring_over(holder, tensors, Names({"0": "layer."}))


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_block_is_a_layer_of_pytorchs_encoder(norm_first: bool) -> None:
    theirs = torch.nn.TransformerEncoderLayer(
        D,
        HEADS,
        INNER,
        activation="gelu",
        norm_first=norm_first,
        batch_first=True,
        layer_norm_eps=1e-3,
    )
    randomised(theirs)
    cfg = BlockConfig(D, HEADS, INNER, epsilon=1e-3, norm_first=norm_first)
    ours = layers.stack(1, lambda rngs: Block(cfg, rngs=rngs), nnx.Rngs(0))
    modules = {
        "norm1": "block.*.norm1.",
        **convert.thirds("attention", "block.*.self_attn.in_proj_"),
        "attention.out": "block.*.self_attn.out_proj.",
        "norm2": "block.*.norm2.",
        "ffw.inner": "block.*.linear1.",
        "ffw.outer": "block.*.linear2.",
    }
    tensors = {f"block.0.{name}": tensor for name, tensor in tensors_of(theirs).items()}
    bring_over(ours, tensors, Names(modules))
    x = random(2, 5, D)
    found = layers.run_stack(ours, jnp.asarray(x), lambda block, x: block(x, jnp.float32))
    # Inputs that want gradients: PyTorch's fused kernel for inference rounds otherwise.
    assert_same(found, theirs(torch.from_numpy(x).requires_grad_()))


def test_the_residual_stays_in_float32() -> None:
    cfg = BlockConfig(D, HEADS, INNER)
    x = jnp.asarray(1000 + random(2, 5, D))
    for norm_first in (True, False):
        block = Block(BlockConfig(D, HEADS, INNER, norm_first=norm_first), rngs=nnx.Rngs(0))
        assert block(x, jnp.bfloat16).dtype == jnp.float32
    change = np.asarray(Block(cfg, rngs=nnx.Rngs(0))(x, jnp.bfloat16) - x)
    assert 0 < np.abs(change).mean() < 4  # In bfloat16 1000 is as good as 1003.


def test_biases_of_queries_keys_and_values_can_be_left_out() -> None:
    block = Block(BlockConfig(D, HEADS, INNER, biased="qv"), rngs=nnx.Rngs(0))
    assert block.attention.k.b_hk is None
    assert block.attention.v.b_hk is not None


@pytest.mark.parametrize(
    ("axes", "options", "theirs_options"),
    [
        (1, {"stride": 3, "bias": False}, {"stride": 3, "bias": False}),
        (1, {"padding": 2, "dilation": 2}, {"padding": 2, "dilation": 2}),
        (1, {"padding": 4, "groups": 2}, {"padding": 4, "groups": 2}),
        (2, {"padding": 1, "stride": 2}, {"padding": 1, "stride": 2}),
        (2, {"padding": (1, 0)}, {"padding": (1, 0)}),
        (3, {"padding": 1}, {"padding": 1}),
    ],
)
def test_convolutions(axes: int, options: dict[str, Any], theirs_options: dict[str, Any]) -> None:
    kind = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[axes - 1]
    theirs = randomised(kind(4, 6, 3, **theirs_options))
    ours = Conv((3,) * axes, 4, 6, rngs=nnx.Rngs(0), **options)
    one_module(ours, theirs)
    x = random(2, *(9, 8, 7)[:axes], 4)
    wanted = theirs(torch.from_numpy(x).movedim(-1, 1)).movedim(1, -1)
    assert_same(ours(jnp.asarray(x)), wanted)


@pytest.mark.parametrize("window", [(3, 2), (2, 3, 2)])
def test_patches_are_a_convolution_with_strides_as_wide_as_its_window(
    window: tuple[int, ...],
) -> None:
    kind: Any = torch.nn.Conv2d if len(window) == 2 else torch.nn.Conv3d
    theirs = randomised(kind(3, 5, window, stride=window))
    ours = Patches(window, 3, 5, rngs=nnx.Rngs(0))
    one_module(ours, theirs)
    x = random(2, *(4 * size for size in window), 3)
    wanted = theirs(torch.from_numpy(x).movedim(-1, 1)).movedim(1, -1)
    assert_same(ours(jnp.asarray(x)), wanted)


@pytest.mark.parametrize(("window", "stride", "padding"), [(3, 2, 1), (3, 3, 0), (5, 5, 0)])
def test_max_pooling(window: int, stride: int, padding: int) -> None:
    x = random(2, 11, 12, 3) - 3
    theirs = torch.nn.MaxPool2d(window, stride, padding)
    wanted = theirs(torch.from_numpy(x).movedim(-1, 1)).movedim(1, -1)
    assert_same(max_pool(jnp.asarray(x), window, stride=stride, padding=padding), wanted)


@pytest.mark.parametrize("sizes", [(24, 7), (12, 5), (6, 3), (48, 15), (1, 1)])
def test_adaptive_max_pooling(sizes: tuple[int, int]) -> None:
    x = random(2, 48, 15, 3) - 3
    wanted = torch.nn.AdaptiveMaxPool2d(sizes)(torch.from_numpy(x).movedim(-1, 1)).movedim(1, -1)
    assert_same(adaptive_max_pool(jnp.asarray(x), sizes), wanted)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(layers.BatchNorm, torch.nn.BatchNorm1d), (layers.PReLU, torch.nn.PReLU)],
)
def test_batch_norm_and_slopes(ours: type, theirs: type) -> None:
    peer = randomised(theirs(D))
    module = ours(D, rngs=nnx.Rngs(0))
    one_module(module, peer)
    x = random(7, D)
    assert_same(module(jnp.asarray(x)), peer(torch.from_numpy(x)))
    assert module(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


def test_activations() -> None:
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    assert_same(layers.gelu(jnp.asarray(x)), torch.nn.functional.gelu(torch.from_numpy(x)))
    assert_same(
        layers.quick_gelu(jnp.asarray(x)),
        torch.from_numpy(x) * torch.sigmoid(1.702 * torch.tensor(x)),
    )


# ------------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    "shape", [(INNER, D), (D, INNER, 2), (D * INNER,), (D, INNER + 1), (2, D // 2, INNER)]
)
def test_a_matrix_of_another_shape_is_no_weight(shape: tuple[int, ...]) -> None:
    module = nnx.List([layers.FeedForward(BlockConfig(D, HEADS, INNER), rngs=nnx.Rngs(0))])
    tensors = {
        "inner.weight": random(INNER, D),
        "inner.bias": random(INNER),
        "outer.weight": random(*shape),
        "outer.bias": random(D),
    }
    names = Names({"0.inner": "inner.", "0.outer": "outer."})
    with pytest.raises(UserError, match=r"weight 0\.outer\.w_io cannot be made of 'outer\.weight'"):
        bring_over(module, tensors, names)


def test_names_that_tell_a_network() -> None:
    tensors = {f"encoder.net.{name}": random(2, 3) for name in ("a.weight", "aa.weight")}
    assert convert.prefix_of(tensors, "a.weight", "Net (net.pt)") == "encoder.net."
    with pytest.raises(UserError, match=r"no tensor 'b\.weight'; it is no file of Net \(net\.pt\)"):
        convert.prefix_of(tensors, "b.weight", "Net (net.pt)")
    tensors["a.weight"] = random(2, 3)
    with pytest.raises(UserError, match=r"2 tensors '\*\.a\.weight'; it is no file of Net"):
        convert.prefix_of(tensors, "a.weight", "Net (net.pt)")
    with pytest.raises(UserError, match=r"'a\.weight' .* shape \(2, 3\), not 3 axes; it is no"):
        convert.shape_of(tensors, "a.weight", 3, "Net (net.pt)")
    tensors["a.weight"] = random(0, 3)
    with pytest.raises(UserError, match=r"'a\.weight' .* shape \(0, 3\), not 2 axes"):
        convert.shape_of(tensors, "a.weight", 2, "Net (net.pt)")
    with pytest.raises(UserError, match="width 100, no multiple of 64, that of a head; it is no"):
        convert.parts_of(100, 64, "a head", "Net (net.pt)")


def test_blocks_are_counted_by_their_numbers() -> None:
    names = [f"a.blocks.{i}.{x}" for i in range(12) for x in "xy"]
    assert convert.count([*names, "blocks.40.x", "a.blocks.b.x"], "a.blocks.") == 12
    assert convert.count(names, "a.stages.") == 0
