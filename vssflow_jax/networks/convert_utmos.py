"""Weights of UTMOS's strong learner, from the names of its published file."""

from collections.abc import Mapping

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names, Tensor
from vssflow_jax.networks.utmos import UTMOSConfig
from vssflow_jax.networks.wav2vec import WINDOWS
from vssflow_jax.weights.mapping import Rule

PUBLISHED = "UTMOS, strong learner (utmos22_strong_step7459_v1.pt)"
HEAD_WIDTH = 64
UNUSED = ("wav2vec2.mask_emb",)  # what only training needs
_CONVS = "wav2vec2.feature_extractor.conv_layers."
_ENCODER = "wav2vec2.encoder."
_BLOCK = f"{_ENCODER}layers.*."


def config(tensors: Mapping[str, np.ndarray]) -> UTMOSConfig:
    """The sizes of the network in a file.

    Raises:
      UserError: the file is of another network.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, name, axes, PUBLISHED)

    hidden, _ = shape("projection.0.weight", 2)
    d, per_group, window = shape(f"{_ENCODER}pos_conv.0.weight_v", 3)
    return UTMOSConfig(
        width=d,
        layers=convert.count(tensors, f"{_ENCODER}layers."),
        heads=convert.parts_of(d, HEAD_WIDTH, "a head", PUBLISHED),
        inner_width=shape(f"{_ENCODER}layers.0.fc1.weight", 2)[0],
        positional_window=window,
        positional_groups=convert.parts_of(d, per_group, "a group of channels", PUBLISHED),
        channels=shape(f"{_CONVS}0.0.weight", 3)[0],
        embedding=shape("domain_emb", 2)[1],
        memory=shape("blstm.weight_hh_l0", 2)[1],
        hidden=hidden,
    )


def _memory(module: str, suffix: str) -> tuple[Rule, ...]:
    """Rules of one direction of the memory, whose two biases are summed."""
    return (
        Rule(f"{module}.read.w_io", (f"blstm.weight_ih_l0{suffix}",), np.transpose),
        Rule(f"{module}.recall.w_io", (f"blstm.weight_hh_l0{suffix}",), np.transpose),
        Rule(
            f"{module}.read.b_o",
            (f"blstm.bias_ih_l0{suffix}", f"blstm.bias_hh_l0{suffix}"),
            np.add,
        ),
    )


NAMES = Names(
    modules={
        **{f"extractor.convs.{i}": f"{_CONVS}{i}.0." for i in range(len(WINDOWS))},
        "extractor": f"{_CONVS}0.2.",
        "norm": "wav2vec2.layer_norm.",
        "project": "wav2vec2.post_extract_proj.",
        "trunk.positions": f"{_ENCODER}pos_conv.0.",
        "trunk.norm": f"{_ENCODER}layer_norm.",
        **convert.projections("trunk.blocks.attention", f"{_BLOCK}self_attn."),
        "trunk.blocks.norm1": f"{_BLOCK}self_attn_layer_norm.",
        "trunk.blocks.ffw.inner": f"{_BLOCK}fc1.",
        "trunk.blocks.ffw.outer": f"{_BLOCK}fc2.",
        "trunk.blocks.norm2": f"{_BLOCK}final_layer_norm.",
        "inner": "projection.0.",
        "outer": "projection.2.",
    },
    tensors={
        "domain_d": Tensor("domain_emb", (0,)),
        "judge_d": Tensor("judge_emb", (0,)),
    },
    rules=(
        Rule(
            "trunk.positions.w_xio",
            tuple(f"{_ENCODER}pos_conv.0.weight_{part}" for part in "gv"),
            convert.folded_over_window,
        ),
        *_memory("forward", ""),
        *_memory("backward", "_reverse"),
    ),
)
