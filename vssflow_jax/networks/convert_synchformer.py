"""Weights of Synchformer's picture side, from the names of its published file."""

import math
from collections.abc import Mapping

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names, Tensor
from vssflow_jax.networks.synchformer import SynchformerConfig

PUBLISHED = "Synchformer (synchformer_state_dict.pth)"
PREFIX = "vfeat_extractor."
HEAD_WIDTH = 64
# Patches of single pictures; the sound side, and the judge of both.
UNUSED = (
    f"{PREFIX}patch_embed.",
    "afeat_extractor.",
    "vproj.",
    "aproj.",
    "transformer.",
)

_BLOCK = f"{PREFIX}blocks.*."
_POOL = f"{PREFIX}spatial_attn_agg."
NAMES = Names(
    modules={
        "patches": f"{PREFIX}patch_embed_3d.proj.",
        "blocks.time_norm": f"{_BLOCK}norm3.",
        **convert.thirds("blocks.time_attention", f"{_BLOCK}timeattn.qkv."),
        "blocks.time_attention.out": f"{_BLOCK}timeattn.proj.",
        "blocks.space.norm1": f"{_BLOCK}norm1.",
        **convert.thirds("blocks.space.attention", f"{_BLOCK}attn.qkv."),
        "blocks.space.attention.out": f"{_BLOCK}attn.proj.",
        "blocks.space.norm2": f"{_BLOCK}norm2.",
        "blocks.space.ffw.inner": f"{_BLOCK}mlp.fc1.",
        "blocks.space.ffw.outer": f"{_BLOCK}mlp.fc2.",
        "norm": f"{PREFIX}norm.",
        "pool.norm1": f"{_POOL}norm1.",
        **convert.thirds("pool.attention", f"{_POOL}self_attn.in_proj_"),
        "pool.attention.out": f"{_POOL}self_attn.out_proj.",
        "pool.norm2": f"{_POOL}norm2.",
        "pool.ffw.inner": f"{_POOL}linear1.",
        "pool.ffw.outer": f"{_POOL}linear2.",
    },
    tensors={
        "class_token_d": Tensor(f"{PREFIX}cls_token", (0, 1)),
        "places_nd": Tensor(f"{PREFIX}pos_embed", (0,)),
        "times_td": Tensor(f"{PREFIX}temp_embed", (0,)),
        "pool_token_d": Tensor(f"{_POOL}cls_token", (0, 1)),
    },
)


def config(tensors: Mapping[str, np.ndarray]) -> SynchformerConfig:
    """The sizes of the network in a file.

    Raises:
      UserError: the file is of another network.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, f"{PREFIX}{name}", axes, PUBLISHED)

    d, _, patch_frames, patch_size, _ = shape("patch_embed_3d.proj.weight", 5)
    _, steps, _ = shape("temp_embed", 3)
    _, places, _ = shape("pos_embed", 3)
    inner_width, _ = shape("blocks.0.mlp.fc1.weight", 2)
    return SynchformerConfig(
        width=d,
        layers=convert.count(tensors, f"{PREFIX}blocks."),
        heads=convert.parts_of(d, HEAD_WIDTH, "a head", PUBLISHED),
        inner_width=inner_width,
        frames=steps * patch_frames,
        image_size=math.isqrt(places - 1) * patch_size,
        patch_frames=patch_frames,
        patch_size=patch_size,
    )
