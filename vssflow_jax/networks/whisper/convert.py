"""Weights of Whisper, from the names of transformers and those of CTranslate2."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names, Part, Tensor
from vssflow_jax.networks.whisper.network import Whisper, WhisperConfig
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import mapping

PUBLISHED = "Whisper (a folder of Hugging Face, or of CTranslate2)"
NETWORK = "WhisperSpec"
"""What CTranslate2's files call it."""

_HEAD_WIDTH = 64  # of all published networks, where a file does not say
_GELU = 3  # among CTranslate2's activations
_STEM = "encoder.conv1.weight"
_CTRANSLATE2 = "decoder.embeddings.weight"
_OUTPUT = "decoder.projection.weight"
_OUTPUT_OF_HUGGING_FACE = "proj_out.weight"


def is_ctranslate2(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether tensors have the names of CTranslate2."""
    return _CTRANSLATE2 in tensors


def convert_weights(tensors: Mapping[str, np.ndarray], cfg: WhisperConfig) -> mapping.Conversion:
    """Weights of a `Whisper` from the tensors of a file.

    Raises:
      UserError: it is of another network, or tensors are missing, unknown or of another shape.
    """
    abstract = mapping.abstract_weights(lambda: Whisper(cfg, rngs=nnx.Rngs(0)))
    # The map to logits is the embedding again. CTranslate2's settings are tensors without axes.
    settings = [name for name, tensor in tensors.items() if tensor.ndim == 0]
    return mapping.convert(
        convert.rules(abstract, names(tensors)),
        tensors,
        abstract,
        expected_left_over=(_OUTPUT_OF_HUGGING_FACE, _OUTPUT, *settings),
    )


def names(tensors: Mapping[str, np.ndarray]) -> Names:
    """Where a file keeps the weights of a `Whisper`.

    Raises:
      UserError: it is of another network.
    """
    if is_ctranslate2(tensors):
        return _ctranslate2()
    return _hugging_face(convert.prefix_of(tensors, _STEM, PUBLISHED))


def config(tensors: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> WhisperConfig:
    """The sizes of a network.

    Args:
      tensors: of its file, by name.
      options: of the `config.json` beside it.

    Raises:
      UserError: the tensors are of another network, or what it computes is not computed here.
    """
    found = names(tensors)

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, name, axes, PUBLISHED)

    def of_module(name: str, axes: int) -> tuple[int, ...]:
        return shape(f"{str(found.modules[name]).replace('*', '0')}weight", axes)

    def layers(name: str) -> int:
        return convert.count(tensors, str(found.modules[name]).partition("*")[0])

    embedding = str(found.tensors["decoder.tokens_vd"].name)
    for name in (_OUTPUT, _OUTPUT_OF_HUGGING_FACE):
        if {name, embedding} <= tensors.keys() and not np.array_equal(
            tensors[name], tensors[embedding]
        ):
            raise UserError(
                "the source has a map to logits that is not its embedding of tokens, which is not "
                "computed here"
            )
    d, bands, _ = of_module("encoder.conv1", 3)
    inner_width, _ = of_module("encoder.blocks.ffw.inner", 2)
    own = _ctranslate2_heads(tensors) if is_ctranslate2(tensors) else _heads(options)
    heads = own or convert.parts_of(d, _HEAD_WIDTH, "a head", PUBLISHED)
    if d % heads:
        raise UserError(f"{PUBLISHED}: {heads} heads of a width of {d}, no multiple of that")
    return WhisperConfig(
        width=d,
        heads=heads,
        inner_width=inner_width,
        encoder_layers=layers("encoder.blocks.ffw.inner"),
        decoder_layers=layers("decoder.blocks.ffw.inner"),
        bands=bands,
        frames=shape(found.tensors["encoder.positions_td"].name, 2)[0],
        tokens=shape(found.tensors["decoder.positions_nd"].name, 2)[0],
        vocabulary=shape(found.tensors["decoder.tokens_vd"].name, 2)[0],
    )


def _heads(options: Mapping[str, Any]) -> int | None:
    """Heads by a `config.json` of transformers, None if it does not say.

    Raises:
      UserError: it asks for what is not computed here.
    """
    heads = options.get("encoder_attention_heads")
    wanted = {
        "decoder_attention_heads": heads,
        "activation_function": "gelu",
        "scale_embedding": False,
    }
    for name, value in wanted.items():
        if options.get(name, value) != value:
            raise UserError(
                f"config.json of Whisper: {name} is {options[name]!r}; only {value!r} is computed "
                "here"
            )
    if heads is not None and not (isinstance(heads, int) and heads > 0):
        raise UserError(f"config.json of Whisper: encoder_attention_heads is {heads!r}")
    return heads


def _ctranslate2_heads(tensors: Mapping[str, np.ndarray]) -> int | None:
    """Heads by the settings in a file of CTranslate2, None if it does not say.

    Raises:
      UserError: they ask for what is not computed here.
    """
    if int(tensors.get("decoder.activation", np.int8(_GELU))) != _GELU:
        raise UserError("the source has another activation than GELU, which is not computed here")
    heads = [int(tensors[f"{x}.num_heads"]) for x in _SIDES if f"{x}.num_heads" in tensors]
    if len(set(heads)) > 1:
        raise UserError(f"the source has {heads} heads, not as many on both sides")
    return heads[0] if heads else None


_SIDES = ("encoder", "decoder")


def _hugging_face(prefix: str) -> Names:
    modules: dict[str, convert.Stem] = {
        "encoder.conv1": f"{prefix}encoder.conv1.",
        "encoder.conv2": f"{prefix}encoder.conv2.",
    }
    for side, last_norm in zip(_SIDES, ("norm2", "norm3"), strict=True):
        block = f"{prefix}{side}.layers.*."
        modules |= {
            f"{side}.norm": f"{prefix}{side}.layer_norm.",
            f"{side}.blocks.norm1": f"{block}self_attn_layer_norm.",
            **convert.projections(f"{side}.blocks.attention", f"{block}self_attn."),
            f"{side}.blocks.{last_norm}": f"{block}final_layer_norm.",
            f"{side}.blocks.ffw.inner": f"{block}fc1.",
            f"{side}.blocks.ffw.outer": f"{block}fc2.",
        }
    modules |= {
        "decoder.blocks.norm2": f"{prefix}decoder.layers.*.encoder_attn_layer_norm.",
        **convert.projections(
            "decoder.blocks.listening", f"{prefix}decoder.layers.*.encoder_attn."
        ),
    }
    return Names(
        modules,
        tensors={
            "encoder.positions_td": Tensor(f"{prefix}encoder.embed_positions.weight"),
            "decoder.positions_nd": Tensor(f"{prefix}decoder.embed_positions.weight"),
            "decoder.tokens_vd": Tensor(f"{prefix}decoder.embed_tokens.weight"),
        },
    )


def _ctranslate2() -> Names:
    modules: dict[str, convert.Stem] = {
        "encoder.conv1": "encoder.conv1.",
        "encoder.conv2": "encoder.conv2.",
    }
    for side, last_norm in zip(_SIDES, ("norm2", "norm3"), strict=True):
        block = f"{side}.layer.*."
        modules |= {
            f"{side}.norm": f"{side}.layer_norm.",
            f"{side}.blocks.norm1": f"{block}self_attention.layer_norm.",
            **convert.thirds(f"{side}.blocks.attention", f"{block}self_attention.linear_0."),
            f"{side}.blocks.attention.out": f"{block}self_attention.linear_1.",
            f"{side}.blocks.{last_norm}": f"{block}ffn.layer_norm.",
            f"{side}.blocks.ffw.inner": f"{block}ffn.linear_0.",
            f"{side}.blocks.ffw.outer": f"{block}ffn.linear_1.",
        }
    listening = "decoder.layer.*.attention."
    modules |= {
        "decoder.blocks.norm2": f"{listening}layer_norm.",
        "decoder.blocks.listening.q": f"{listening}linear_0.",
        "decoder.blocks.listening.k": Part(f"{listening}linear_1.", 0, 2),
        "decoder.blocks.listening.v": Part(f"{listening}linear_1.", 1, 2),
        "decoder.blocks.listening.out": f"{listening}linear_2.",
    }
    return Names(
        modules,
        tensors={
            "encoder.positions_td": Tensor("encoder.position_encodings.encodings"),
            "decoder.positions_nd": Tensor("decoder.position_encodings.encodings"),
            "decoder.tokens_vd": Tensor(_CTRANSLATE2),
        },
    )
