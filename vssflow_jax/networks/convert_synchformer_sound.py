"""Weights of Synchformer's sound side, from the names of its published file."""

from collections.abc import Mapping

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names, Tensor
from vssflow_jax.networks.convert_synchformer import HEAD_WIDTH, PREFIX, PUBLISHED
from vssflow_jax.networks.synchformer_sound import SynchformerSoundConfig

UNUSED = (PREFIX, "vproj.", "aproj.", "transformer.")  # the picture side, and the judge
_SOUND = "afeat_extractor."
_AST = f"{_SOUND}ast."
_LAYER = f"{_AST}encoder.layer.*."
_POOL = f"{_SOUND}freq_attn_agg."


def config(tensors: Mapping[str, np.ndarray]) -> SynchformerSoundConfig:
    """The sizes of the network in a file.

    Raises:
      UserError: the file is of another network, or has no sound side.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, name, axes, PUBLISHED)

    d, _, patch, _ = shape(f"{_AST}embeddings.patch_embeddings.projection.weight", 4)
    return SynchformerSoundConfig(
        width=d,
        layers=convert.count(tensors, f"{_AST}encoder.layer."),
        heads=convert.parts_of(d, HEAD_WIDTH, "a head", PUBLISHED),
        inner_width=shape(f"{_AST}encoder.layer.0.intermediate.dense.weight", 2)[0],
        patch=patch,
    )


def _queries_keys_values(module: str, stem: str) -> dict[str, str]:
    return {f"{module}.{name[0]}": f"{stem}{name}." for name in ("query", "key", "value")}


NAMES = Names(
    modules={
        "patches": f"{_AST}embeddings.patch_embeddings.projection.",
        "blocks.norm1": f"{_LAYER}layernorm_before.",
        **_queries_keys_values("blocks.attention", f"{_LAYER}attention.attention."),
        "blocks.attention.out": f"{_LAYER}attention.output.dense.",
        "blocks.norm2": f"{_LAYER}layernorm_after.",
        "blocks.ffw.inner": f"{_LAYER}intermediate.dense.",
        "blocks.ffw.outer": f"{_LAYER}output.dense.",
        "norm": f"{_AST}layernorm.",
        "pool.norm1": f"{_POOL}norm1.",
        **convert.thirds("pool.attention", f"{_POOL}self_attn.in_proj_"),
        "pool.attention.out": f"{_POOL}self_attn.out_proj.",
        "pool.norm2": f"{_POOL}norm2.",
        "pool.ffw.inner": f"{_POOL}linear1.",
        "pool.ffw.outer": f"{_POOL}linear2.",
    },
    tensors={
        "class_token_d": Tensor(f"{_AST}embeddings.cls_token", (0, 1)),
        "distilled_token_d": Tensor(f"{_AST}embeddings.distillation_token", (0, 1)),
        "places_nd": Tensor(f"{_AST}embeddings.position_embeddings", (0,)),
        "pool_token_d": Tensor(f"{_POOL}cls_token", (0, 1)),
    },
)
