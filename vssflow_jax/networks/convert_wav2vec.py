"""Weights of wav2vec 2.0 and its kin, from the names of fairseq."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names
from vssflow_jax.networks.wav2vec import WINDOWS
from vssflow_jax.weights.mapping import Rule

_HEAD_WIDTH = 64
MASK = "mask_emb"
"""What only training needs."""


class Source(NamedTuple):
    """Where a file keeps a network of these.

    Attributes:
      tensors: of the file, by name.
      prefix: what stands before the names of fairseq.
      what: the whole network and its published file, for messages.
    """

    tensors: Mapping[str, np.ndarray]
    prefix: str
    what: str

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        """Shape of a tensor that tells sizes.

        Raises:
          UserError: there is no such tensor, or it has more or fewer axes.
        """
        return convert.shape_of(self.tensors, f"{self.prefix}{name}", axes, self.what)


def trunk_sizes(source: Source) -> dict[str, Any]:
    """Sizes of the transformer, as a `TrunkConfig` has them.

    Raises:
      UserError: the file is of another network.
    """
    d, per_group, window = source.shape("encoder.pos_conv.0.weight_v", 3)
    inner_width, _ = source.shape("encoder.layers.0.fc1.weight", 2)
    groups = convert.parts_of(d, per_group, "a group of channels", source.what)
    return {
        "width": d,
        "layers": convert.count(source.tensors, f"{source.prefix}encoder.layers."),
        "heads": convert.parts_of(d, _HEAD_WIDTH, "a head", source.what),
        "inner_width": inner_width,
        "positional_window": window,
        "positional_groups": groups,
    }


def channels(source: Source) -> int:
    """Channels of the convolutions that make frames of samples.

    Raises:
      UserError: the file is of another network.
    """
    return source.shape("feature_extractor.conv_layers.0.0.weight", 3)[0]


def trunk(prefix: str) -> Names:
    """Where the weights of a `Trunk` called `trunk` are."""
    block, positions = f"{prefix}encoder.layers.*.", f"{prefix}encoder.pos_conv.0."
    folded = tuple(f"{positions}weight_{part}" for part in "gv")
    return Names(
        modules={
            "trunk.positions": positions,
            "trunk.norm": f"{prefix}encoder.layer_norm.",
            "trunk.blocks.norm1": f"{block}self_attn_layer_norm.",
            **convert.projections("trunk.blocks.attention", f"{block}self_attn."),
            "trunk.blocks.norm2": f"{block}final_layer_norm.",
            "trunk.blocks.ffw.inner": f"{block}fc1.",
            "trunk.blocks.ffw.outer": f"{block}fc2.",
        },
        rules=(Rule("trunk.positions.w_xio", folded, convert.folded_over_window),),
    )


def wav2vec(prefix: str) -> Names:
    """Where the weights of a `Wav2Vec` are."""
    convs = f"{prefix}feature_extractor.conv_layers."
    modules = {f"extractor.convs.{i}": f"{convs}{i}.0." for i in range(len(WINDOWS))}
    modules |= {
        "extractor": f"{convs}0.2.",
        "norm": f"{prefix}layer_norm.",
        "project": f"{prefix}post_extract_proj.",
    }
    return trunk(prefix).joined(Names(modules))
