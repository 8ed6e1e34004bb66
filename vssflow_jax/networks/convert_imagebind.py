"""Weights of ImageBind's picture and sound, from the names of its published file."""

import math
from collections.abc import Mapping

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names, Stem, Tensor
from vssflow_jax.networks.imagebind import FRAMES, ImageBindConfig
from vssflow_jax.weights.mapping import Rule

PUBLISHED = "ImageBind (imagebind_huge.pth)"
_SIDES = {"vision": "vision", "sound": "audio"}  # ours, and theirs
_VISION_HEAD, _SOUND_HEAD = 80, 64  # widths of heads
_PARTS = ("preprocessors", "trunks", "heads", "postprocessors")
# What else its file binds.
UNUSED = tuple(
    f"modality_{part}.{other}." for part in _PARTS for other in ("text", "depth", "thermal", "imu")
)


def config(tensors: Mapping[str, np.ndarray]) -> ImageBindConfig:
    """The sizes of the network in a file.

    Raises:
      UserError: the file is of another network.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, name, axes, PUBLISHED)

    seen, _, frames, patch, _ = shape("modality_preprocessors.vision.rgbt_stem.proj.1.weight", 5)
    convert.parts_of(frames, FRAMES, "a pair of pictures", PUBLISHED)
    _, tokens, _ = shape("modality_preprocessors.vision.pos_embedding_helper.pos_embed", 3)
    heard, *_, sound_patch = shape("modality_preprocessors.audio.rgbt_stem.proj.weight", 4)
    return ImageBindConfig(
        vision_width=seen,
        vision_layers=convert.count(tensors, "modality_trunks.vision.blocks."),
        vision_heads=convert.parts_of(seen, _VISION_HEAD, "a head", PUBLISHED),
        sound_width=heard,
        sound_layers=convert.count(tensors, "modality_trunks.audio.blocks."),
        sound_heads=convert.parts_of(heard, _SOUND_HEAD, "a head", PUBLISHED),
        embedding=shape("modality_heads.vision.2.weight", 2)[0],
        image_size=math.isqrt(tokens - 1) * patch,
        patch_size=patch,
        sound_patch=sound_patch,
    )


def names(tensors: Mapping[str, np.ndarray]) -> Names:
    """Where a file keeps the weights of an `ImageBind`.

    Raises:
      UserError: it is of another network.
    """
    cfg = config(tensors)
    modules: dict[str, Stem] = {
        "vision_patches": "modality_preprocessors.vision.rgbt_stem.proj.1.",
        "vision_norm": "modality_trunks.vision.pre_transformer_layer.0.",
        "sound_patches": "modality_preprocessors.audio.rgbt_stem.proj.",
        "sound_norm": "modality_preprocessors.audio.rgbt_stem.norm_layer.",
    }
    places = {"log_scale": Tensor("modality_postprocessors.audio.1.log_logit_scale")}
    for ours, theirs in _SIDES.items():
        side, stem = f"{ours}_side", f"modality_preprocessors.{theirs}."
        modules |= _side(side, theirs)
        places |= {
            f"{side}.class_token_d": Tensor(f"{stem}cls_token", (0, 1)),
            f"{side}.places_nd": Tensor(f"{stem}pos_embedding_helper.pos_embed", (0,)),
        }
    sinks = (_sink(f"{name}_hk", f"bias_{name[0]}", cfg) for name in ("key", "value"))
    return Names(modules=modules, tensors=places, rules=tuple(sinks))


def _side(module: str, theirs: str) -> dict[str, Stem]:
    block = f"modality_trunks.{theirs}.blocks.*."
    return {
        f"{module}.blocks.norm1": f"{block}norm_1.",
        **convert.thirds(f"{module}.blocks.attention", f"{block}attn.in_proj_"),
        f"{module}.blocks.attention.out": f"{block}attn.out_proj.",
        f"{module}.blocks.norm2": f"{block}norm_2.",
        f"{module}.blocks.ffw.inner": f"{block}mlp.fc1.",
        f"{module}.blocks.ffw.outer": f"{block}mlp.fc2.",
        f"{module}.norm": f"modality_heads.{theirs}.0.",
        f"{module}.project": f"modality_heads.{theirs}.2.",
    }


def _sink(ours: str, theirs: str, cfg: ImageBindConfig) -> Rule:
    """A key or a value of each block, by heads."""
    shape = (cfg.sound_layers, *cfg.sound.block.heads_shape)
    sources = (f"modality_trunks.audio.blocks.{i}.attn.{theirs}" for i in range(cfg.sound_layers))
    return Rule(
        f"sound_side.blocks.{ours}",
        tuple(sources),
        lambda *blocks: np.stack(blocks).reshape(shape),
    )
