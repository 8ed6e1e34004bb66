"""The transformer alone, and what passes through its blocks, against `dit_small.npz`."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from tests.parity import trunk
from tests.parity.golden import EXACT, FORWARD, Golden, Row
from vssflow_jax.models.convert_vssflow import TRUNK
from vssflow_jax.models.layers import rope_tables


def check(golden: Golden) -> Iterator[Row]:
    """A row for the channels, rotary tables, time token, each branch, each block, the output."""
    cfg = trunk.transformer_config(golden)
    weights = {TRUNK + name: value for name, value in golden.below("w/").items()}
    x, t, context = (golden[f"in/{name}"] for name in ("x", "t", "encoder_hidden_states"))
    for name in ("in_channels", "out_channels"):
        yield golden.row(f"cfg/{name}", x.shape[1], EXACT)
    network = trunk.load(weights, cfg, channels=x.shape[1])

    tables = rope_tables(1 + x.shape[2], cfg.head_dim)
    yield golden.row("out/rope_cos", tables[0], FORWARD)
    yield golden.row("out/rope_sin", tables[1], FORWARD)
    token = network.transformer.time(t, jnp.dtype("float32"))
    yield golden.row("out/time_embedding", token, FORWARD)

    frames = np.swapaxes(x, 1, 2) @ network.input_map
    hidden = jnp.concatenate([token[:, None], frames], axis=1)
    for index in range(cfg.layers):
        block = network.block(index)
        if index == 0:
            for name, branch in branches(block, hidden, context, tables).items():
                yield golden.row(f"out/block_0_{name}", branch, FORWARD)
        hidden = block(hidden, hidden.shape[1], context, tables, hidden.dtype)
        yield golden.row(f"out/after_block_{index}", hidden, FORWARD)
    yield golden.row("out/y", jax.jit(network)(x, t, context), FORWARD)


def branches(block, x, context, tables) -> dict[str, jax.Array]:
    """What each branch of a block adds."""
    normed = block.norm1(x, x.dtype)
    first = block.self_attention(normed, normed, x.shape[1], tables, rotate_keys=True)
    x = x + first
    second = block.cross_attention(
        block.norm2(x, x.dtype), context, context.shape[1], tables, rotate_keys=False
    )
    x = x + second
    return {"attn1": first, "attn2": second, "ff": block.ffw(block.norm3(x, x.dtype))}
