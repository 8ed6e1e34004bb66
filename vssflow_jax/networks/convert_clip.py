"""Weights of CLIP's picture encoder, from OpenAI's names and those of Hugging Face.

OpenCLIP's files have OpenAI's names; what they compute is told by `OPENCLIP_FILE` beside them.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.clip_vision import CHANNELS, MEAN, STD, ClipVisionConfig, Colour
from vssflow_jax.networks.convert import Names, Tensor
from vssflow_jax.networks.layers import ACTIVATIONS
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.state_dict import CONFIG_FILE

PUBLISHED = "CLIP (ViT-B-16.pt, or a folder of Hugging Face)"
OPENCLIP_FILE = "open_clip_config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
_OPENAI, _HUGGING_FACE = "class_embedding", "embeddings.class_embedding"

# What OpenAI's files hold beside the weights, and no other.
_OPENAI_ONLY = ("input_resolution", "context_length", "vocab_size")

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
    *_OPENAI_ONLY,
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


def config(
    tensors: Mapping[str, np.ndarray],
    options: Mapping[str, Any],
    scale: Mapping[str, Any] | None = None,
) -> ClipVisionConfig:
    """The sizes of a network, and the scale of its pictures.

    Args:
      tensors: of its file, by name.
      options: of the `config.json` beside it, or of `OPENCLIP_FILE` where the names are OpenAI's;
        none if there is none.
      scale: of `PREPROCESSOR_FILE` beside it, likewise.

    Raises:
      UserError: the tensors are of another network, or what it computes is not computed here, or
        nothing tells what that is.
    """
    found = names(tensors)
    if is_hugging_face(tensors):
        told = _transformers(options, scale or {})
    else:
        told = _openclip(options) if options else _of_openai(tensors)
    d, _, _, patch = convert.shape_of(tensors, f"{found.modules['patches']}weight", 4, PUBLISHED)
    tokens, _ = convert.shape_of(tensors, found.tensors["positions_nd"].name, 2, PUBLISHED)
    inner = str(found.modules["blocks.ffw.inner"])
    inner_width, _ = convert.shape_of(tensors, f"{inner.replace('*', '0')}weight", 2, PUBLISHED)
    return ClipVisionConfig(
        width=d,
        layers=convert.count(tensors, inner.partition("*")[0]),
        inner_width=inner_width,
        image_size=math.isqrt(tokens - 1) * patch,
        patch_size=patch,
        heads=_heads(d, told),
        activation=told.activation,
        epsilon=told.epsilon,
        mean=told.mean,
        std=told.std,
    )


class _Told(NamedTuple):
    """What the tensors do not say.

    Attributes:
      heads: of the attention, or their width, by the name that the file has for it.
    """

    heads: Mapping[str, Any]
    activation: str = ClipVisionConfig.activation
    epsilon: float = ClipVisionConfig.epsilon
    mean: Colour = MEAN
    std: Colour = STD


_NUMBER, _WIDTH = "num_attention_heads", "head_width"
_OF_OPENAI = _Told({_WIDTH: 64})


def _of_openai(tensors: Mapping[str, np.ndarray]) -> _Told:
    """OpenAI's own networks, which nothing but their files tells from OpenCLIP's."""
    if not tensors.keys() & set(_OPENAI_ONLY):
        raise UserError(
            "these weights of CLIP have OpenAI's names, but lack input_resolution, which OpenAI's "
            "own files hold: their activation and heads are not known; put OpenCLIP's "
            f"{OPENCLIP_FILE} beside them, or take OpenAI's ViT-B-16.pt"
        )
    return _OF_OPENAI


def _openclip(options: Mapping[str, Any]) -> _Told:
    """By `OPENCLIP_FILE`, whose defaults are those of OpenCLIP."""
    model, scale = (_part(options, name, OPENCLIP_FILE) for name in ("model_cfg", "preprocess_cfg"))
    vision = _part(model, "vision_cfg", OPENCLIP_FILE)
    return _Told(
        {_WIDTH: vision.get(_WIDTH, 64)},
        "quick_gelu" if model.get("quick_gelu") else "gelu",
        _part(vision, "norm_kwargs", OPENCLIP_FILE).get("eps", 1e-5),
        _colour(scale, "mean", MEAN, OPENCLIP_FILE),
        _colour(scale, "std", STD, OPENCLIP_FILE),
    )


def _transformers(options: Mapping[str, Any], scale: Mapping[str, Any]) -> _Told:
    """By `config.json`, whole or of the picture encoder alone, and by `PREPROCESSOR_FILE`."""
    if not options:
        raise UserError(
            f"these weights of CLIP have Hugging Face's names, but no {CONFIG_FILE} lies beside "
            "them, which tells their activation and heads; get it from where they are from"
        )
    own = _part(options, "vision_config", CONFIG_FILE) or options
    activation = own.get("hidden_act", _OF_OPENAI.activation)
    if activation not in ACTIVATIONS:
        raise UserError(
            f"{CONFIG_FILE} of CLIP: hidden_act is {activation!r}; only these are computed here: "
            f"{', '.join(ACTIVATIONS)}"
        )
    return _Told(
        {_NUMBER: own[_NUMBER]} if _NUMBER in own else _OF_OPENAI.heads,
        activation,
        own.get("layer_norm_eps", _OF_OPENAI.epsilon),
        _colour(scale, "image_mean", MEAN, PREPROCESSOR_FILE),
        _colour(scale, "image_std", STD, PREPROCESSOR_FILE),
    )


def _heads(d: int, told: _Told) -> int:
    ((name, value),) = told.heads.items()
    if not isinstance(value, int) or value < 1 or d % value:
        raise UserError(
            f"CLIP: {name} is {value!r}, but the width {d} must be a multiple of it; take the "
            f"{CONFIG_FILE} or {OPENCLIP_FILE} that belongs to the weights"
        )
    return value if name == _NUMBER else d // value


def _part(options: Mapping[str, Any], name: str, file: str) -> Mapping[str, Any]:
    """An object within a JSON file; empty if there is none."""
    part = options.get(name) or {}
    if not isinstance(part, Mapping):
        raise UserError(f"{file} of CLIP: {name} is {part!r}, but must be an object; get it again")
    return part


def _colour(options: Mapping[str, Any], name: str, default: Colour, file: str) -> Colour:
    value = options.get(name, default)
    if not (
        isinstance(value, list | tuple)
        and len(value) == CHANNELS
        and all(isinstance(x, int | float) for x in value)
    ):
        raise UserError(
            f"{file} of CLIP: {name} is {value!r}, but must be three numbers, of red, green and "
            "blue; get it again"
        )
    red, green, blue = map(float, value)
    return red, green, blue


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
