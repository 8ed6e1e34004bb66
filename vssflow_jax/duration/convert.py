"""Weights of the duration predictor, from the names and layouts of the reference's."""

import numpy as np
from flax import nnx

from vssflow_jax.duration.model import DurationConfig, DurationPredictor
from vssflow_jax.weights import mapping
from vssflow_jax.weights.mapping import Rule

MODULE = "dp."
"""What the names start with where the network is a part of a Lightning module."""
UNUSED = tuple(
    f"{module}.positial_embedding" for module in ("phone_encoder", "hubert_encoder", "attn_decoder")
)
"""Starts of the names of the sinusoid tables, which are computed here."""

_LAYERS = "layers"
_PROJECTIONS = ("q", "k", "v")  # one tensor there
_NAMES = {
    "phoneme_encoder": "phone_encoder",
    "lip_encoder": "hubert_encoder",
    "decoder": "attn_decoder",
    "into": "inputq_proj",
    "source_into": "inputkv_proj",
    "self_attention": "self_attn",
    "cross_attention": "cross_attn",
    "ffw": "feed_forward",
    "inner": "0",
    "middle": "2",
    "outer": "4",
    "out": "output_proj",
    "table_vi": "phone_embedding.weight",
    "w_io": "weight",
    "b_o": "bias",
    "scale_d": "weight",
    "bias_d": "bias",
}


def rules(cfg: DurationConfig) -> list[Rule]:
    """One rule for each weight of a `DurationPredictor`, whose layers are stacked."""
    abstract = mapping.abstract_weights(lambda: DurationPredictor(cfg, rngs=nnx.Rngs(0)))
    return [_rule(name, cfg) for name in mapping.flatten(abstract)]


def _rule(target: str, cfg: DurationConfig) -> Rule:
    path = target.split(".")
    parts = [_NAMES.get(part, part) for part in path]
    match path:
        case [*_, "q" | "k" | "v", _]:
            parts[-2:] = [f"in_proj_{parts[-1]}"]
        case [*_, "self_attention" | "cross_attention", "out", _]:
            parts[-2] = "out_proj"
    source = ".".join(parts)

    def read(tensor: np.ndarray) -> np.ndarray:
        """Its third where it holds q, k and v; a matrix as [i, o]."""
        if len(path) > 1 and path[-2] in _PROJECTIONS:
            tensor = np.split(tensor, len(_PROJECTIONS))[_PROJECTIONS.index(path[-2])]
        return tensor.T if path[-1] == "w_io" else tensor

    if _LAYERS not in path:
        return Rule(target, (source,), read)
    count = cfg.decoder_layers if path[0] == "decoder" else cfg.encoder_layers
    sources = [source.replace(f".{_LAYERS}.", f".{_LAYERS}.{index}.") for index in range(count)]
    return Rule(target, tuple(sources), lambda *layers: np.stack([*map(read, layers)]))
