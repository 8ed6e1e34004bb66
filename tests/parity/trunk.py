"""The reference's diffusion transformer as it stands: all channels in, all channels out.

`VSSFlow` computes the latent channels only. The same weights and layers without that saving are
what golden data of whole outputs can be held against.
"""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx

from tests.parity.golden import Golden
from vssflow_jax.models import convert_vssflow
from vssflow_jax.models.conditions import ConditionWidths
from vssflow_jax.models.transformer import Block, Transformer, TransformerConfig
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.weights import mapping

PARTS = ("input", "transformer", "output")


@dataclasses.dataclass(frozen=True, eq=False)
class Trunk:
    """The transformer between folded input and output maps [C, d] and [d, C]."""

    input_map: np.ndarray
    transformer: Transformer
    output_map: np.ndarray

    def __call__(self, x: jax.Array, t: jax.Array, context: jax.Array) -> jax.Array:
        """Velocity of all channels. [b, C, t], [b], [b, s, e] -> [b, C, t]."""
        frames = x.swapaxes(1, 2) @ self.input_map
        return (self.transformer(frames, t, context) @ self.output_map).swapaxes(1, 2)

    def block(self, index: int) -> Block:
        """One of the stacked blocks."""
        definition, stacked = nnx.split(self.transformer.blocks)
        return nnx.merge(definition, jax.tree.map(lambda leaf: leaf[index], stacked))


def transformer_config(golden: Golden) -> TransformerConfig:
    """The sizes in a file's `cfg/`."""
    sizes = {name: int(value) for name, value in golden.below("cfg/").items()}
    return TransformerConfig(
        layers=sizes["num_layers"],
        heads=sizes["num_attention_heads"],
        kv_heads=sizes["num_key_value_attention_heads"],
        head_dim=sizes["attention_head_dim"],
        context_width=sizes["cross_attention_dim"],
        time_features=sizes["time_proj_dim"],
    )


def load(weights: Mapping[str, np.ndarray], transformer: TransformerConfig, channels: int) -> Trunk:
    """The trunk with the weights of a state dict, whose names start with `vaflow.`."""
    # A network of the same trunk whose latent is as wide as all of the reference's channels.
    one = ConditionWidths(1, 1)
    widths = {"visual": dataclasses.replace(one, projected=transformer.context_width - 3)}
    widths |= dict.fromkeys(("phonemes", "lips", "sync", "speaker"), one)
    cfg = ModelConfig("none", widths, transformer, "float32", latent_channels=channels)
    whole = convert_vssflow.abstract_weights(cfg)
    rules = [rule for rule in convert_vssflow.rules(cfg) if rule.target.split(".")[0] in PARTS]
    ours, _ = mapping.convert(
        rules,
        {name: value for name, value in weights.items() if name.startswith(convert_vssflow.TRUNK)},
        {part: whole[part] for part in PARTS},
    )
    module = nnx.eval_shape(lambda: Transformer(transformer, rngs=nnx.Rngs(0)))
    nnx.update(module, jax.tree.map(jax.numpy.asarray, ours["transformer"]))
    return Trunk(ours["input"]["w_io"], module, ours["output"]["w_io"])
