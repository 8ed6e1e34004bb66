"""VSSFlow: the condition encoder, the input and output maps, and the transformer between them."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util
from jax.typing import DTypeLike

from vssflow_jax.clip import LATENT_CHANNELS
from vssflow_jax.models.conditions import (
    PLACEMENTS,
    ConditionEncoder,
    Conditioning,
    ConditionWidths,
    Features,
    context_width,
)
from vssflow_jax.models.layers import Linear, zeros
from vssflow_jax.models.parts import is_map
from vssflow_jax.models.transformer import Transformer, TransformerConfig
from vssflow_jax.parallel.sharding import MeshRules
from vssflow_jax.utils.errors import UserError

if TYPE_CHECKING:
    import ml_collections

Weights = Any  # nested dicts

# Fields of a `model` section that say how the network is computed, not what.
COMPUTED_ALIKE = (
    "transformer.unroll",
    "transformer.remat",
    "transformer.attention",
    "transformer.token_multiple",
    "transformer.residual_dtype",
)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of the whole network and the dtype it computes in."""

    placement: str
    widths: Mapping[str, ConditionWidths]
    transformer: TransformerConfig
    dtype: str = "bfloat16"
    latent_channels: int = LATENT_CHANNELS

    @property
    def feature_widths(self) -> dict[str, int]:
        """Channels that each stream of features must have."""
        return {name: w.features for name, w in self.widths.items() if name != "phonemes"}

    @classmethod
    def from_config(cls, config: "ml_collections.ConfigDict") -> "ModelConfig":
        """From the `model` section of a config file.

        Raises:
          UserError: unknown placement, or a speaker wider than the context it is a token of.
        """
        if config.placement not in PLACEMENTS:
            known = ", ".join(PLACEMENTS)
            raise UserError(f"model.placement is '{config.placement}'; choose one of: {known}")
        widths = {name: ConditionWidths(**value) for name, value in config.widths.items()}
        context = context_width(PLACEMENTS[config.placement], widths)
        if 0 < context < widths["speaker"].projected:
            raise UserError(
                f"model.widths.speaker.projected is {widths['speaker'].projected}, wider than the "
                f"context of placement '{config.placement}', {context}; make it narrower"
            )
        transformer = TransformerConfig(context_width=context, **config.transformer)
        return cls(config.placement, widths, transformer, config.dtype, config.latent_channels)

    def fitted(self, mesh_rules: MeshRules) -> "ModelConfig":
        """The same with what is left to the devices chosen for those of a layout."""
        transformer = self.transformer.fitted(mesh_rules, self.dtype)
        return dataclasses.replace(self, transformer=transformer)


_OUTPUT = "output."
"""How the name of the map begins that multiplies the residual, which may be finer than the rest."""


def cast_maps(weights: Weights, dtype: DTypeLike) -> Weights:
    """Weights of a `VSSFlow`, nested, with the maps that compute in `dtype` in that dtype.

    What is computed is the same, for they would be cast one by one. Cast once, they are read in
    that dtype by each of many evaluations, sent to other devices in it, and so are their gradients.
    """
    leaves = traverse_util.flatten_dict(weights, sep=".")
    return traverse_util.unflatten_dict(
        {
            name: leaf.astype(dtype) if is_map(name) and not name.startswith(_OUTPUT) else leaf
            for name, leaf in leaves.items()
        },
        sep=".",
    )


class VSSFlow(nnx.Module):
    """Velocity of the flow, given a noisy latent, a flow time and what is known of the clip.

    `encode` turns features into a `Conditioning` once; calling the model uses it at any flow time.
    """

    def __init__(self, cfg: ModelConfig, mesh_rules: MeshRules | None = None, *, rngs: nnx.Rngs):
        width = cfg.transformer.width
        self.dtype = jnp.dtype(cfg.dtype)
        self.conditions = ConditionEncoder(PLACEMENTS[cfg.placement], cfg.widths, width, rngs=rngs)
        channels = cfg.latent_channels
        self.input = Linear((channels, width), ("channel", "embed"), rngs=rngs)
        self.transformer = Transformer(cfg.transformer, mesh_rules, rngs=rngs)
        self.output = Linear((width, channels), ("embed", "channel"), rngs=rngs, init=zeros)

    def encode(
        self,
        features: Features,
        *,
        frame_masks: Mapping[str, jax.Array] | None = None,
        keep: jax.Array | None = None,
    ) -> Conditioning:
        """Features of b clips to their conditioning; see `ConditionEncoder`."""
        keep = jnp.ones(features["speaker"].shape[0]) if keep is None else keep
        with jax.named_scope("conditions"):
            return self.conditions(features, frame_masks or {}, keep, self.dtype)

    def __call__(self, x: jax.Array, t: jax.Array, conditioning: Conditioning) -> jax.Array:
        """Velocity at x [b r, t, c] and flow time [b r]; float32 [b r, t, c].

        `conditioning.frames` and `.token` have b r rows; of each clip's r rows the first sees the
        context.
        """
        frames = self.input(x.astype(self.dtype)) + conditioning.frames  # [b r, t, d]
        hidden = self.transformer(frames, t, conditioning.context, conditioning.token)
        return self.output(hidden).astype(jnp.float32)
