"""The first blocks of Stable Audio Open's transformer, to start from (REFERENCE section 4).

What has another shape there is initialised anew: the keys and values of the cross-attention, where
the context has another width. So are the maps of latent and conditions and the norms of queries and
keys, which it does not have.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from vssflow_jax.models import convert_vssflow
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow
from vssflow_jax.run.experiment import FAN_IN, REFERENCE
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import mapping
from vssflow_jax.weights.mapping import Rule

CLASS_NAME = "StableAudioDiTModel"
# Options of its config.json that must be as in ours, though no shape may tell.
_SAME = {
    "num_attention_heads": "heads",
    "num_key_value_attention_heads": "kv_heads",
    "attention_head_dim": "head_dim",
}
# Maps of its text, of its duration and of another latent.
_NOT_OURS = (
    "cross_attention_proj.",
    "global_proj.",
    "preprocess_conv.",
    "proj_in.",
    "proj_out.",
    "postprocess_conv.",
)
_SPEAKER_TO_TOKEN = "conditions.speaker_to_token."
_HEAD_NORM = ".scale_k"  # of queries and keys
_MAY_DIFFER = (
    "transformer.blocks.cross_attention.k_egk",
    "transformer.blocks.cross_attention.v_egk",
    f"{_SPEAKER_TO_TOKEN}inner.w_io",
)


def from_stable_audio(
    source: Mapping[str, np.ndarray],
    options: Mapping[str, Any],
    cfg: ModelConfig,
    seed: int,
    init: str = FAN_IN,
) -> mapping.Conversion:
    """Our weights, the transformer's from a `StableAudioDiTModel` of diffusers.

    Args:
      source: its state dict.
      options: its `config.json`.
      cfg: sizes of our network.
      seed: seed of the initial values of the rest.
      init: how they are drawn, one of `run.experiment.INITS`.

    Raises:
      UserError: it has too few blocks, other heads or another width; tensors are missing.
    """
    _check(options, cfg)
    layers = cfg.transformer.layers
    abstract = convert_vssflow.abstract_weights(cfg)
    names = list(mapping.flatten(abstract))
    rules = [_rule(name, cfg) for name in names if _has_source(name)]
    may_differ = [name for name in names if not _has_source(name) or name in _MAY_DIFFER]
    later_blocks = [f"transformer_blocks.{i}." for i in range(layers, options["num_layers"])]
    return mapping.convert(
        rules,
        source,
        abstract,
        may_differ=may_differ,
        initial=lambda names: initial_weights(cfg, seed, names, init),
        expected_left_over=(*_NOT_OURS, *later_blocks),
    )


def _check(options: Mapping[str, Any], cfg: ModelConfig) -> None:
    found = options.get("_class_name")
    if found != CLASS_NAME:
        raise UserError(f"config.json: _class_name is {found!r}; it must be {CLASS_NAME!r}")
    for name in ("num_layers", *_SAME):
        if name not in options:
            raise UserError(f"config.json has no '{name}'; take a complete one")
    for theirs, ours in _SAME.items():
        wanted = getattr(cfg.transformer, ours)
        if options[theirs] != wanted:
            raise UserError(
                f"config.json: {theirs} is {options[theirs]}, but model.transformer.{ours} is "
                f"{wanted}; make them equal"
            )
    if options["num_layers"] < cfg.transformer.layers:
        raise UserError(
            f"config.json: num_layers is {options['num_layers']}, fewer than "
            f"model.transformer.layers, {cfg.transformer.layers}; lower that"
        )


def _has_source(name: str) -> bool:
    if name.endswith(_HEAD_NORM):
        return False
    return name.startswith(("transformer.", _SPEAKER_TO_TOKEN))


def _rule(name: str, cfg: ModelConfig) -> Rule:
    """As from the reference, whose network bears the same names with a prefix."""
    rule = convert_vssflow.direct_rule(name, cfg)
    sources = tuple(source.removeprefix(convert_vssflow.TRUNK) for source in rule.sources)
    return Rule(name, sources, rule.convert)


def initial_weights(
    cfg: ModelConfig, seed: int, names: Sequence[str], init: str = FAN_IN
) -> dict[str, np.ndarray]:
    """Some weights by dotted name, as training from nothing would start with."""

    @jax.jit  # which leaves out the other weights
    def draw() -> dict[str, jax.Array]:
        state = nnx.state(VSSFlow(cfg, rngs=nnx.Rngs(seed)))
        weights = mapping.flatten(nnx.to_pure_dict(state))
        return {name: weights[name] for name in names}

    redrawn = convert_vssflow.drawn_as_reference(cfg, seed) if init == REFERENCE else {}
    found = jax.tree.map(np.asarray, draw())
    return found | {name: value for name, value in redrawn.items() if name in found}
