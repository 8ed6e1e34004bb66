"""The transformer of wav2vec's kin against its live peers in transformers, in both its orders."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from transformers import HubertConfig, HubertModel

from tests.networks.test_layers import assert_same, bring_over, random, randomised, tensors_of
from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names
from vssflow_jax.networks.wav2vec import Trunk, TrunkConfig
from vssflow_jax.weights.mapping import Rule

D, LAYERS, HEADS, INNER, WINDOW, GROUPS = 32, 2, 4, 48, 16, 4
BLOCK = "layers.*."
LENGTHS = tuple(f"pos_conv_embed.conv.parametrizations.weight.original{i}" for i in (0, 1))
NAMES = Names(
    modules={
        "positions": "pos_conv_embed.conv.",
        "norm": "layer_norm.",
        "blocks.norm1": f"{BLOCK}layer_norm.",
        **convert.projections("blocks.attention", f"{BLOCK}attention."),
        "blocks.norm2": f"{BLOCK}final_layer_norm.",
        "blocks.ffw.inner": f"{BLOCK}feed_forward.intermediate_dense.",
        "blocks.ffw.outer": f"{BLOCK}feed_forward.output_dense.",
    },
    rules=(Rule("positions.w_xio", LENGTHS, convert.folded_over_window),),
)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("frames", [11, 40])
def test_computes_what_hubert_does(norm_first: bool, frames: int) -> None:
    config = HubertConfig(
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        num_conv_pos_embeddings=WINDOW,
        num_conv_pos_embedding_groups=GROUPS,
        do_stable_layer_norm=norm_first,
        layer_norm_eps=1e-3,
    )
    theirs = randomised(HubertModel(config).encoder)
    cfg = TrunkConfig(D, LAYERS, HEADS, INNER, WINDOW, GROUPS, 1e-3, norm_first)
    ours = Trunk(cfg, rngs=nnx.Rngs(0))
    bring_over(ours, tensors_of(theirs), NAMES)
    x = random(2, frames, D)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(x)).last_hidden_state
    assert_same(nnx.jit(Trunk.__call__)(ours, jnp.asarray(x)), wanted)


def test_positions_are_told_by_neighbours() -> None:
    trunk = Trunk(TrunkConfig(D, 0, HEADS, INNER, WINDOW, GROUPS), rngs=nnx.Rngs(0))
    x = random(1, 40, D)
    changed = x.copy()
    changed[:, 20] += 1
    moved = np.abs(trunk(jnp.asarray(changed)) - trunk(jnp.asarray(x))).max(axis=(0, 2)) > 1e-6
    # Of a window of 16 frames 8 come before a frame and 7 after it.
    assert np.flatnonzero(moved).tolist() == list(range(13, 29))
