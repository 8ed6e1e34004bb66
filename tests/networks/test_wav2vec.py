"""The transformer of wav2vec's kin against its live peers in transformers, in both its orders."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from transformers import HubertConfig, HubertModel, WavLMConfig, WavLMModel

from tests.networks.test_layers import assert_same, bring_over, random, randomised, tensors_of
from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names, Tensor
from vssflow_jax.networks.wav2vec import Trunk, TrunkConfig, buckets_of_distances
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
WAVLM_NAMES = NAMES.joined(
    Names(
        modules={"blocks.attention.gates": f"{BLOCK}attention.gru_rel_pos_linear."},
        tensors={
            "blocks.attention.scale_h": Tensor(f"{BLOCK}attention.gru_rel_pos_const", (0, 2, 3)),
            "bias_rh": Tensor("layers.0.attention.rel_attn_embed.weight"),
        },
    )
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


def wavlm(*, norm_first: bool) -> tuple[torch.nn.Module, Trunk]:
    """The transformer of transformers, and ours with its weights; with few buckets all are used."""
    sizes = {"num_buckets": 12, "max_bucket_distance": 25}
    config = WavLMConfig(
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        num_conv_pos_embeddings=WINDOW,
        num_conv_pos_embedding_groups=GROUPS,
        do_stable_layer_norm=norm_first,
        layer_norm_eps=1e-3,
        **sizes,
    )
    theirs = randomised(WavLMModel(config).encoder)
    cfg = TrunkConfig(D, LAYERS, HEADS, INNER, WINDOW, GROUPS, 1e-3, norm_first, *sizes.values())
    ours = Trunk(cfg, rngs=nnx.Rngs(0))
    bring_over(ours, tensors_of(theirs), WAVLM_NAMES)
    return theirs, ours


@pytest.mark.parametrize("norm_first", [True, False])
def test_computes_what_wavlm_does(norm_first: bool) -> None:
    theirs, ours = wavlm(norm_first=norm_first)
    x, frames = random(3, 40, D), np.array([40, 17, 1], np.int32)
    own = torch.arange(40) < torch.from_numpy(frames)[:, None]
    with torch.no_grad():
        full = theirs(torch.from_numpy(x)).last_hidden_state
        # It writes into what it is given.
        masked = theirs(torch.tensor(x), own).last_hidden_state
    run = nnx.jit(Trunk.__call__)
    assert_same(run(ours, jnp.asarray(x)), full)
    found = run(ours, jnp.asarray(x), frames=jnp.asarray(frames))
    assert_same(found[own.numpy()], masked[own])
    # That would tell other biases and other gates.
    for weight in (ours.bias_rh, ours.blocks.attention.gates.w_io):
        kept = weight[...]
        weight[...] = kept + random(*kept.shape)
        assert np.abs(ours(jnp.asarray(x)) - full.numpy()).max() > 1e-3
        weight[...] = kept


@pytest.mark.parametrize("norm_first", [True, False])
def test_all_layers_of_wavlm_are_seen(norm_first: bool) -> None:
    theirs, ours = wavlm(norm_first=norm_first)
    seen: list[torch.Tensor] = []
    theirs.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for layer in theirs.layers:
        layer.register_forward_hook(lambda _, __, made: seen.append(made[0]))
    x = random(2, 11, D)
    with torch.no_grad():
        theirs(torch.from_numpy(x))
    found = nnx.jit(lambda trunk, x: trunk.trace(x, lambda x: x[:, 3:5]))(ours, jnp.asarray(x))
    assert_same(found, torch.stack(seen)[:, :, 3:5])


@pytest.mark.parametrize(("buckets", "max_distance"), [(320, 800), (12, 25), (64, 100)])
def test_distances_are_in_the_buckets_of_wavlm(buckets: int, max_distance: int) -> None:
    config = WavLMConfig(num_buckets=buckets, max_bucket_distance=max_distance, num_hidden_layers=1)
    attention = WavLMModel(config).encoder.layers[0].attention
    places = torch.arange(1500)
    wanted = attention._relative_positions_bucket(places - places[:, None])
    found = buckets_of_distances(len(places), buckets, max_distance)
    np.testing.assert_array_equal(found, wanted.numpy())
