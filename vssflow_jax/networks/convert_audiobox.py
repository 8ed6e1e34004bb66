"""Weights of Audiobox-Aesthetics, from the names of its two published files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vssflow_jax.networks import convert, convert_wav2vec
from vssflow_jax.networks.audiobox import AXES, AudioboxConfig
from vssflow_jax.networks.convert import Names, Stem, Tensor
from vssflow_jax.networks.convert_wav2vec import Source
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.state_dict import StateDict, read_config_beside, read_entries

PUBLISHED = "Audiobox-Aesthetics (model.safetensors beside its config.json, or checkpoint.pt)"
_RATINGS = "target_transform"
_WAVLM = "wavlm_model."
_BIAS = "encoder.layers.0.self_attn.relative_attention_bias.weight"
# Of a perceptron: a layer is a map, a norm and an activation without weights.
_MAP, _NORM, _PARTS = 0, 1, 3


def unused(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """What names of tensors that are not needed start with."""
    return (f"{_prefix(tensors)}{_WAVLM}{convert_wav2vec.MASK}",)


def config(tensors: Mapping[str, np.ndarray]) -> AudioboxConfig:
    """The sizes of the network in a file.

    Raises:
      UserError: the file is of another network.
    """
    prefix = _prefix(tensors)
    source = Source(tensors, f"{prefix}{_WAVLM}", PUBLISHED)
    buckets, _ = source.shape(_BIAS, 2)
    modules = convert.count(tensors, f"{prefix}proj_layer.{AXES[0]}.")
    return AudioboxConfig(
        **convert_wav2vec.trunk_sizes(source),
        buckets=buckets,
        channels=convert_wav2vec.channels(source),
        hidden=modules // 2,  # With weights: two of each layer, and one of the last.
    )


def names(tensors: Mapping[str, np.ndarray]) -> Names:
    """Where a file keeps the weights of an `Audiobox`.

    Raises:
      UserError: it is of another network.
    """
    prefix = _prefix(tensors)
    wavlm = f"{prefix}{_WAVLM}"
    attention = f"{wavlm}encoder.layers.*.self_attn."
    modules: dict[str, Stem] = {"trunk.blocks.attention.gates": f"{attention}grep_linear."}
    parts = {
        "trunk.bias_rh": Tensor(f"{wavlm}{_BIAS}"),
        "trunk.blocks.attention.scale_h": Tensor(f"{attention}grep_a", (0, 2, 3)),
    }
    hidden = config(tensors).hidden
    for number, axis in enumerate(AXES):
        own, theirs = f"axes.{number}", f"{prefix}proj_layer.{axis}."
        for layer in range(hidden):
            modules[f"{own}.inner.{layer}"] = f"{theirs}{layer * _PARTS + _MAP}."
            modules[f"{own}.norms.{layer}"] = f"{theirs}{layer * _PARTS + _NORM}."
        modules[f"{own}.outer"] = f"{theirs}{hidden * _PARTS + _MAP}."
        parts[f"{own}.weights_l"] = Tensor(f"{prefix}layer_weights.{axis}")
        parts[f"{own}.mean"] = Tensor(f"{_RATINGS}.{axis}.mean")
        parts[f"{own}.deviation"] = Tensor(f"{_RATINGS}.{axis}.std")
    return convert_wav2vec.wav2vec(wavlm).joined(Names(modules, parts))


def ratings(tensors: Mapping[str, np.ndarray], source: Path) -> StateDict:
    """Mean and deviation of each axis' ratings, by names as if they were tensors of the file.

    Args:
      tensors: of a file, by name.
      source: the file, or a folder with it. `checkpoint.pt` has them itself, `model.safetensors` in
        the `config.json` beside it.

    Raises:
      UserError: they are not there, or the file is of another network.
    """
    _prefix(tensors)
    entries = read_entries(source)
    options = entries if _RATINGS in entries else read_config_beside(source)
    settings = entries.get("model_cfg", options)
    if isinstance(settings, Mapping) and settings.get("normalize_embed", True) is not True:
        raise UserError(
            f"{source}: normalize_embed is {settings['normalize_embed']!r}; only networks that "
            "scale their embeddings to length 1, as the published one, are computed here"
        )
    return {
        f"{_RATINGS}.{axis}.{name}": np.array(_number(options, axis, name, source), np.float32)
        for axis in AXES
        for name in ("mean", "std")
    }


def _number(options: Mapping[str, Any], axis: str, name: str, source: Path) -> float:
    try:
        return float(options[_RATINGS][axis][name])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{source}: no number '{_RATINGS}.{axis}.{name}' in it or in the config.json beside "
            "it; get both files again"
        ) from error


def _prefix(tensors: Mapping[str, np.ndarray]) -> str:
    return convert.prefix_of(tensors, f"layer_weights.{AXES[0]}", PUBLISHED)
