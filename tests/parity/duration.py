"""The duration predictor against `duration_small.npz`."""

import json
from collections.abc import Iterator

import jax
import numpy as np
from flax import nnx

from tests.parity.golden import EXACT, Golden, Row
from vssflow_jax.duration import convert
from vssflow_jax.duration.model import DurationConfig, DurationPredictor, sinusoids
from vssflow_jax.weights import mapping

NETWORKS = ("a", "b")
SINUSOIDS = 2e-5  # the reference's tables are as far from the exact values, at high positions
FLOAT32 = 1e-4  # the reference's own results in float32 and float64 are 2e-5 apart
FLOAT64 = 1e-5  # norms are float32 here whatever comes in


def check(golden: Golden) -> Iterator[Row]:
    """Rows for the encoders, the output and the maps of each network, and the position tables."""
    for width, table in golden.below("pe/").items():
        yield golden.row(f"pe/{width}", sinusoids(table.shape[1], int(width))[None], SINUSOIDS)
    for network in NETWORKS:
        yield from _check_network(golden, network)


def _check_network(golden: Golden, network: str) -> Iterator[Row]:
    def key(name: str) -> str:
        return f"{network}/{name}"

    cfg = config_of(str(golden[key("config")]))
    weights = golden.below(key("sd/"))
    yield _names(golden, network, cfg)

    model = load(cfg, weights)
    phonemes, lips = golden[key("phoneme")].astype(np.int32), golden[key("avhubert")]
    asking = nnx.jit(lambda model: model.lip_encoder(lips)[0])(model)
    asked = nnx.jit(lambda model: model.phoneme_encoder(model.embed(phonemes))[0])(model)
    yield golden.row(key("hubert_feature"), asking, FLOAT32)
    yield golden.row(key("phone_feature"), asked, FLOAT32)
    for suffix, dtype, tolerance in (("", np.float32, FLOAT32), ("_f64", np.float64, FLOAT64)):
        with jax.enable_x64(dtype is np.float64):
            output, maps = nnx.jit(DurationPredictor.__call__)(model, phonemes, lips.astype(dtype))
        yield golden.row(key(f"output{suffix}"), output, tolerance)
        yield golden.row(key(f"attn{suffix}"), maps, tolerance)


def _names(golden: Golden, network: str, cfg: DurationConfig) -> Row:
    """How many names of the reference's state dict are neither a rule's source nor a table's."""
    names, table_widths = golden[f"{network}/sd_keys"], golden[f"{network}/sd_pe_width"]
    used = {name for rule in convert.rules(cfg) for name in rule.sources}
    known = [
        name.startswith(convert.UNUSED) if width else name in used
        for name, width in zip(map(str, names), table_widths, strict=True)
    ]
    strays = len(names) - sum(known) + len(used - set(map(str, names)))
    return Row(f"{golden.name}/{network}/sd_keys", names.shape, float(strays), EXACT)


def config_of(reference: str) -> DurationConfig:
    """Our config from the constructor arguments of the reference, as JSON."""
    theirs = json.loads(reference)
    names = {
        "phoneme_features": "phone_inputq_dim",
        "lip_features": "hubert_inputq_dim",
        "phoneme_width": "phone_d_model",
        "phoneme_heads": "phone_nheads",
        "lip_width": "hubert_d_model",
        "lip_heads": "hubert_nheads",
        "encoder_layers": "encoder_num_layers",
        "encoded": "attn_inputq_dim",
        "decoder_width": "attn_d_model",
        "decoder_heads": "attn_nhead",
        "decoder_layers": "attn_num_layers",
        "decoded": "attn_output_dim",
        "outputs": "output_dim",
        "ffw_width": "dim_feedforward",
    }
    return DurationConfig(**{ours: theirs[name] for ours, name in names.items() if name in theirs})


def load(cfg: DurationConfig, weights: dict[str, np.ndarray]) -> DurationPredictor:
    """A duration predictor with the reference's weights."""
    model = nnx.eval_shape(lambda: DurationPredictor(cfg, rngs=nnx.Rngs(0)))
    abstract = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    ours, _ = mapping.convert(convert.rules(cfg), weights, abstract)
    nnx.update(model, ours)
    return model
