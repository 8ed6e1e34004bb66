"""Weights of LAION-CLAP, from the names of its published files and those of transformers."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.clap.network import ClapConfig
from vssflow_jax.networks.convert import Names, Stem, Tensor
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.mapping import Rule

PUBLISHED = (
    "LAION-CLAP without fusion (music_speech_audioset_epoch_15_esc_89.98.pt, or a folder of "
    "Hugging Face)"
)
_TEXT_HEAD = 64  # width, where nothing says it
_RESERVED = 2  # places that no token has
_HUGGING_FACE_EPSILON = 1e-12  # where its config.json does not say
_FUSION = ".fusion_model."
_UNUSED_ENDS = (".relative_position_index", ".attn_mask", ".position_ids", ".token_type_ids")


class _Naming(NamedTuple):
    """How one of the two publishers names what they name differently.

    Attributes:
      sound, text: what names of the two networks start with.
      bands: the batch norm over bands.
      ways: in a block of sound, the table of ways.
      inner, outer: the two maps of a projection.
      block: module of ours and stem of theirs -> the modules of a block of sound.
      unused: what names of tensors that are not needed start with.
    """

    sound: str
    text: str
    bands: str
    ways: str
    inner: str
    outer: str
    block: Callable[[str, str], dict[str, Stem]]
    unused: tuple[str, ...]


def _bert(module: str, stem: str) -> dict[str, Stem]:
    """A block without its norms, as BERT's descendants name it in transformers."""
    maps = {"q": "query", "k": "key", "v": "value"}
    return {
        **{f"{module}.attention.{ours}": f"{stem}attention.self.{x}." for ours, x in maps.items()},
        f"{module}.attention.out": f"{stem}attention.output.dense.",
        f"{module}.ffw.inner": f"{stem}intermediate.dense.",
        f"{module}.ffw.outer": f"{stem}output.dense.",
    }


def _block_of_transformers(module: str, stem: str) -> dict[str, Stem]:
    return {
        **_bert(module, stem),
        f"{module}.norm1": f"{stem}layernorm_before.",
        f"{module}.norm2": f"{stem}layernorm_after.",
    }


def _block_of_laion(module: str, stem: str) -> dict[str, Stem]:
    return {
        f"{module}.norm1": f"{stem}norm1.",
        **convert.thirds(f"{module}.attention", f"{stem}attn.qkv."),
        f"{module}.attention.out": f"{stem}attn.proj.",
        f"{module}.norm2": f"{stem}norm2.",
        f"{module}.ffw.inner": f"{stem}mlp.fc1.",
        f"{module}.ffw.outer": f"{stem}mlp.fc2.",
    }


_LAION = _Naming(
    sound="audio_branch.",
    text="text_branch.",
    bands="bn0.",
    ways="attn.relative_position_bias_table",
    inner="0.",
    outer="2.",
    block=_block_of_laion,
    unused=(
        "logit_scale_",
        "audio_transform.",
        "text_transform.",
        # The front end's own transforms, and the classes of AudioSet.
        "audio_branch.spectrogram_extractor.",
        "audio_branch.logmel_extractor.",
        "audio_branch.tscam_conv.",
        "audio_branch.head.",
    ),
)
_TRANSFORMERS = _Naming(
    sound="audio_model.audio_encoder.",
    text="text_model.",
    bands="batch_norm.",
    ways="attention.self.relative_position_bias_table",
    inner="linear1.",
    outer="linear2.",
    block=_block_of_transformers,
    unused=("logit_scale_",),
)


def is_hugging_face(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether tensors have the names of transformers."""
    return any(name.startswith(_TRANSFORMERS.sound) for name in tensors)


def unused(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """What names of tensors that are not needed start with."""
    ends = (name for name in tensors if name.endswith(_UNUSED_ENDS))
    return (*_naming(tensors).unused, *ends)


def config(tensors: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> ClapConfig:
    """The sizes of a network.

    Args:
      tensors: of its file, by name.
      options: of the `config.json` beside it; none if there is none.

    Raises:
      UserError: the tensors are of another network, or what it computes is not computed here.
    """
    naming = _naming(tensors)
    if any(_FUSION in name for name in tensors):
        raise UserError(f"the source is CLAP with fusion; get a file of {PUBLISHED}")
    _check(options)
    sound, text = naming.sound, naming.text

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, name, axes, PUBLISHED)

    depths = _depths(tensors)
    ways = [shape(f"{sound}layers.{i}.blocks.0.{naming.ways}", 2) for i in range(len(depths))]
    width, _, patch, _ = shape(f"{sound}patch_embed.proj.weight", 4)
    vocabulary, text_width = shape(f"{text}embeddings.word_embeddings.weight", 2)
    places, _ = shape(f"{text}embeddings.position_embeddings.weight", 2)
    of_text, of_sound = options.get("text_config") or {}, options.get("audio_config") or {}
    epsilon = _HUGGING_FACE_EPSILON if is_hugging_face(tensors) else ClapConfig.text_epsilon
    cfg = ClapConfig(
        width=width,
        depths=depths,
        heads=tuple(heads for _, heads in ways),
        window=(math.isqrt(ways[0][0]) + 1) // 2,
        patch=patch,
        bands=shape(f"{sound}{naming.bands}weight", 1)[0],
        side=of_sound.get("spec_size", ClapConfig.side),
        embedding=shape(f"audio_projection.{naming.outer}weight", 2)[0],
        text_width=text_width,
        text_layers=convert.count(tensors, f"{text}encoder.layer."),
        text_heads=of_text.get("num_attention_heads", text_width // _TEXT_HEAD),
        text_inner_width=shape(f"{text}encoder.layer.0.intermediate.dense.weight", 2)[0],
        text_epsilon=of_text.get("layer_norm_eps", epsilon),
        vocabulary=vocabulary,
        tokens=places - _RESERVED,
    )
    _check_sizes(cfg)
    return cfg


def names(tensors: Mapping[str, np.ndarray]) -> Names:
    """Where a file keeps the weights of a `Clap`.

    Raises:
      UserError: it is of another network.
    """
    naming = _naming(tensors)
    modules: dict[str, Stem] = {}
    for ours, theirs in (("sound", "audio"), ("text", "text")):
        modules |= {
            f"{ours}_projection.inner": f"{theirs}_projection.{naming.inner}",
            f"{ours}_projection.outer": f"{theirs}_projection.{naming.outer}",
        }
    modules |= {
        "sound_side.norm_bands": f"{naming.sound}{naming.bands}",
        "sound_side.patches": f"{naming.sound}patch_embed.proj.",
        "sound_side.norm_patches": f"{naming.sound}patch_embed.norm.",
        "sound_side.norm": f"{naming.sound}norm.",
        "text_side.norm": f"{naming.text}embeddings.LayerNorm.",
        **_bert("text_side.blocks", f"{naming.text}encoder.layer.*."),
        "text_side.blocks.norm1": f"{naming.text}encoder.layer.*.attention.output.LayerNorm.",
        "text_side.blocks.norm2": f"{naming.text}encoder.layer.*.output.LayerNorm.",
        "text_side.pool": f"{naming.text}pooler.dense.",
    }
    ways: dict[str, Tensor] = {}
    for stage, depth in enumerate(_depths(tensors)):
        ours, theirs = f"sound_side.stages.{stage}", f"{naming.sound}layers.{stage}."
        modules |= {
            f"{ours}.merge.norm": f"{theirs}downsample.norm.",
            f"{ours}.merge.reduce": f"{theirs}downsample.reduction.",
        }
        for block in range(depth):
            stem = f"{theirs}blocks.{block}."
            modules |= naming.block(f"{ours}.blocks.{block}", stem)
            ways[f"{ours}.blocks.{block}.ways_rh"] = Tensor(f"{stem}{naming.ways}")
    embeddings = f"{naming.text}embeddings."
    return Names(
        modules,
        tensors={
            **ways,
            "text_side.tokens_vd": Tensor(f"{embeddings}word_embeddings.weight"),
        },
        rules=(
            # All of a text is of one type.
            Rule(
                "text_side.places_nd",
                (
                    f"{embeddings}position_embeddings.weight",
                    f"{embeddings}token_type_embeddings.weight",
                ),
                lambda places, types: places[_RESERVED:] + np.squeeze(types, 0),
            ),
        ),
    )


def _naming(tensors: Mapping[str, np.ndarray]) -> _Naming:
    return _TRANSFORMERS if is_hugging_face(tensors) else _LAION


def _depths(tensors: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    stem = f"{_naming(tensors).sound}layers."
    stages = range(convert.count(tensors, stem))
    return tuple(convert.count(tensors, f"{stem}{stage}.blocks.") for stage in stages)


def _check(options: Mapping[str, Any]) -> None:
    """Checks that a `config.json` asks for nothing that is not computed here.

    Raises:
      UserError: it does.
    """
    for section, wanted in _COMPUTED.items():
        own = options.get(section) or {}
        for name, value in wanted.items():
            if own.get(name, value) != value:
                raise UserError(
                    f"config.json of CLAP: {name} of {section} is {own[name]!r}; only {value!r} is "
                    "computed here"
                )


_COMPUTED: Mapping[str, Mapping[str, Any]] = {
    "audio_config": {
        "hidden_act": "gelu",
        "projection_hidden_act": "relu",
        "layer_norm_eps": 1e-5,
        "enable_fusion": False,
    },
    "text_config": {"hidden_act": "gelu", "projection_hidden_act": "relu"},
}


def _check_sizes(cfg: ClapConfig) -> None:
    """Checks that maps can be cut as the network cuts them, and widths too.

    Raises:
      UserError: they cannot.
    """
    smallest = cfg.patch << (len(cfg.depths) - 1)  # what one token of the last stage is of
    sizes = [
        ("spec_size", cfg.side, cfg.bands, "the bands"),
        ("spec_size", cfg.side, smallest * cfg.window, "a window of the last stage"),
        ("width of the text", cfg.text_width, cfg.text_heads, "its heads"),
        *(("width of the sound", x.width, x.heads, "its heads") for x in cfg.blocks),
    ]
    for name, size, part, what in sizes:
        if not (isinstance(size, int) and isinstance(part, int) and part > 0 and size % part == 0):
            raise UserError(
                f"{name} is {size!r}, no multiple of {part!r} for {what}; the config.json beside "
                f"the weights is of another network, or they are no file of {PUBLISHED}"
            )
