"""Weights of the HiFi-GAN vocoder, from the names and layouts of transformers."""

from collections.abc import Callable, Set

import numpy as np
from flax import nnx

from vssflow_jax.audio.hifigan import HifiGan, HifiGanConfig
from vssflow_jax.weights.mapping import Rule, abstract_weights, flatten

# PyTorch keeps a weight under weight norm as length and direction, by older and by newer names.
_LENGTH_AND_DIRECTION = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def rules(cfg: HifiGanConfig, keys: Set[str]) -> list[Rule]:
    """One rule for each weight of a `HifiGan`; weight norm is folded into the weights.

    Args:
      cfg: its sizes.
      keys: names of the tensors of the source, which tell where there is weight norm.
    """
    abstract = abstract_weights(lambda: HifiGan(cfg, rngs=nnx.Rngs(0)))
    return [_rule(target, cfg, keys) for target in flatten(abstract)]


def unused(cfg: HifiGanConfig) -> tuple[str, ...]:
    """Names of tensors that every checkpoint has and that a vocoder of this config ignores."""
    return () if cfg.normalize_before else ("mean", "scale")


def _rule(target: str, cfg: HifiGanConfig, keys: Set[str]) -> Rule:
    source = _source(target, cfg)
    module, _, leaf = source.rpartition(".")
    if leaf != "kernel":
        return Rule(target, (source,), np.asarray)
    layout = _transposed_convolution if module.startswith("upsampler") else _convolution
    for length, direction in _LENGTH_AND_DIRECTION:
        sources = (f"{module}.{length}", f"{module}.{direction}")
        if not keys.isdisjoint(sources):
            return Rule(target, sources, _folded(layout))
    return Rule(target, (f"{module}.weight",), layout)


def _source(target: str, cfg: HifiGanConfig) -> str:
    """Name in the source, where upsamplers and residual blocks of all stages are two lists."""
    match target.split("."):
        case ["stages", stage, "upsampler", *rest]:
            return ".".join(["upsampler", stage, *rest])
        case ["stages", stage, "resblocks", block, *rest]:
            number = int(stage) * len(cfg.resblock_kernel_sizes) + int(block)
            return ".".join(["resblocks", str(number), *rest])
    return target


def _folded(layout: Callable[[np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    """From length [i, 1, 1] and direction [i, ...] to the weight that weight norm makes of them."""

    def fold(length: np.ndarray, direction: np.ndarray) -> np.ndarray:
        norm = np.sqrt(np.sum(direction**2, axis=(1, 2), keepdims=True))
        return layout(direction * (length / norm))

    return fold


def _convolution(weight: np.ndarray) -> np.ndarray:
    """[out, in, frames] -> [frames, in, out]."""
    return weight.transpose(2, 1, 0)


def _transposed_convolution(weight: np.ndarray) -> np.ndarray:
    """[in, out, frames], time reversed -> [frames, in, out]."""
    return weight.transpose(2, 0, 1)[::-1]
