"""Weights of the KL autoencoder, from the names and layouts of diffusers."""

from collections.abc import Mapping, Set

import numpy as np
from flax import nnx

from vssflow_jax.audio.autoencoder import Autoencoder, AutoencoderConfig
from vssflow_jax.weights.mapping import Rule, abstract_weights, flatten

_NAMES = {
    "attention": "attentions.0",
    "downsampler": "downsamplers.0.conv",
    "upsampler": "upsamplers.0.conv",
    "norm": "group_norm",
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "output": "to_out.0",
    "kernel": "weight",
    "scale": "weight",
}
# Checkpoints of older versions of diffusers call the maps of the attention so.
_OLD_NAMES = _NAMES | {"query": "query", "key": "key", "value": "value", "output": "proj_attn"}


def rules(cfg: AutoencoderConfig, keys: Set[str]) -> list[Rule]:
    """One rule for each weight of an `Autoencoder`.

    Args:
      cfg: its sizes.
      keys: names of the tensors of the source, which tell old names from new ones.
    """
    abstract = abstract_weights(lambda: Autoencoder(cfg, rngs=nnx.Rngs(0)))
    return [_rule(target, keys) for target in flatten(abstract)]


def _rule(target: str, keys: Set[str]) -> Rule:
    parts = target.split(".")
    old_source = _source(parts, _OLD_NAMES)
    sources = (old_source if old_source in keys else _source(parts, _NAMES),)
    if parts[-1] != "kernel":
        return Rule(target, sources, np.asarray)
    return Rule(target, sources, _linear if "attention" in parts else _convolution)


def _source(parts: list[str], names: Mapping[str, str]) -> str:
    return ".".join(names.get(part, part) for part in parts)


def _convolution(weight: np.ndarray) -> np.ndarray:
    """[out, in, frames, bands] -> [frames, bands, in, out]."""
    return weight.transpose(2, 3, 1, 0)


def _linear(weight: np.ndarray) -> np.ndarray:
    """[out, in], or [out, in, 1, 1] of a 1x1 convolution -> [in, out]."""
    return weight.reshape(len(weight), -1).T
