"""Weights of CLIP's picture encoder, from OpenAI's names and those of Hugging Face."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.clip_vision import ClipVisionConfig
from vssflow_jax.networks.convert import Names, Tensor
from vssflow_jax.networks.layers import ACTIVATIONS
from vssflow_jax.utils.errors import UserError

PUBLISHED = "CLIP (ViT-B-16.pt, or a folder of Hugging Face)"
_HEAD_WIDTH = 64  # of OpenAI's networks, whose files do not say
_OPENAI, _HUGGING_FACE = "class_embedding", "embeddings.class_embedding"

# The text side, and what comes after the features.
UNUSED = (
    "text_model.",
    "visual_projection.",
    "text_projection",
    "logit_scale",
    "transformer.",
    "token_embedding.",
    "positional_embedding",
    "ln_final.",
    "input_resolution",
    "context_length",
    "vocab_size",
)
_UNUSED_WITHIN = ("post_layernorm.", "embeddings.position_ids", "ln_post.", "proj")


def is_hugging_face(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether tensors have the names of transformers."""
    return any(name.endswith(_HUGGING_FACE) for name in tensors)


def unused(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """What names of tensors that are not needed start with."""
    return (*UNUSED, *(f"{_prefix(tensors)}{name}" for name in _UNUSED_WITHIN))


def names(tensors: Mapping[str, np.ndarray]) -> Names:
    """Where a file keeps the weights of a `ClipVision`.

    Raises:
      UserError: it is of another network.
    """
    prefix = _prefix(tensors)
    return _hugging_face(prefix) if is_hugging_face(tensors) else _openai(prefix)


def config(tensors: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> ClipVisionConfig:
    """The sizes of a network.

    Args:
      tensors: of its file, by name.
      options: of the `config.json` beside it; none if there is none.

    Raises:
      UserError: the tensors are of another network, or what it computes is not computed here.
    """
    found = names(tensors)
    own = options.get("vision_config") or options
    d, _, _, patch = convert.shape_of(tensors, f"{found.modules['patches']}weight", 4, PUBLISHED)
    tokens, _ = convert.shape_of(tensors, found.tensors["positions_nd"].name, 2, PUBLISHED)
    inner = str(found.modules["blocks.ffw.inner"])
    inner_width, _ = convert.shape_of(tensors, f"{inner.replace('*', '0')}weight", 2, PUBLISHED)
    if "num_attention_heads" in own:
        heads = own["num_attention_heads"]
        if not isinstance(heads, int) or heads < 1 or d % heads:
            raise UserError(
                f"config.json of CLIP: num_attention_heads is {heads!r}, but the width {d} must be "
                "a multiple of it; take the one that belongs to the weights"
            )
    else:
        heads = convert.parts_of(d, _HEAD_WIDTH, "a head", PUBLISHED)
    activation = own.get("hidden_act", ClipVisionConfig.activation)
    if activation not in ACTIVATIONS:
        raise UserError(
            f"config.json of CLIP: hidden_act is {activation!r}; only these are computed here: "
            f"{', '.join(ACTIVATIONS)}"
        )
    return ClipVisionConfig(
        width=d,
        layers=convert.count(tensors, inner.partition("*")[0]),
        heads=heads,
        inner_width=inner_width,
        image_size=math.isqrt(tokens - 1) * patch,
        patch_size=patch,
        activation=activation,
        epsilon=own.get("layer_norm_eps", ClipVisionConfig.epsilon),
    )


def _prefix(tensors: Mapping[str, np.ndarray]) -> str:
    token = _HUGGING_FACE if is_hugging_face(tensors) else _OPENAI
    return convert.prefix_of(tensors, token, PUBLISHED)


def _openai(prefix: str) -> Names:
    block = f"{prefix}transformer.resblocks.*."
    return Names(
        modules={
            "patches": f"{prefix}conv1.",
            "norm": f"{prefix}ln_pre.",
            "blocks.norm1": f"{block}ln_1.",
            **convert.thirds("blocks.attention", f"{block}attn.in_proj_"),
            "blocks.attention.out": f"{block}attn.out_proj.",
            "blocks.norm2": f"{block}ln_2.",
            "blocks.ffw.inner": f"{block}mlp.c_fc.",
            "blocks.ffw.outer": f"{block}mlp.c_proj.",
        },
        tensors={
            "class_token_d": Tensor(f"{prefix}class_embedding"),
            "positions_nd": Tensor(f"{prefix}positional_embedding"),
        },
    )


def _hugging_face(prefix: str) -> Names:
    block = f"{prefix}encoder.layers.*."
    return Names(
        modules={
            "patches": f"{prefix}embeddings.patch_embedding.",
            "norm": f"{prefix}pre_layrnorm.",
            "blocks.norm1": f"{block}layer_norm1.",
            **convert.projections("blocks.attention", f"{block}self_attn."),
            "blocks.norm2": f"{block}layer_norm2.",
            "blocks.ffw.inner": f"{block}mlp.fc1.",
            "blocks.ffw.outer": f"{block}mlp.fc2.",
        },
        tensors={
            "class_token_d": Tensor(f"{prefix}embeddings.class_embedding"),
            "positions_nd": Tensor(f"{prefix}embeddings.position_embedding.weight"),
        },
    )
