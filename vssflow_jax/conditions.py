"""Where each condition goes, and how it is brought to model width (REFERENCE sections 3 and 4).

Semantic conditions go through cross-attention; temporally dense ones are concatenated to the latent
and go through self-attention. Which is which is one row of a table.

Letters: b clips, t latent frames, s = 1 + t context tokens, d model width, e context width.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vssflow_jax.layers import Linear, weight

Features = Mapping[str, jax.Array]

MASKABLE = ("lips", "synch")
VOCABULARY = 200


@dataclasses.dataclass(frozen=True)
class Placement:
    """Names of the conditions beside the latent, and of those that are attended to, in order."""

    concatenated: tuple[str, ...]
    attended: tuple[str, ...]


PLACEMENTS = {
    "none": Placement((), ("clip", "phonemes", "lips", "synch")),
    "video_text": Placement(("clip", "phonemes"), ("synch", "lips")),
    "lip_synch": Placement(("lips", "synch"), ("clip", "phonemes")),
    "lip_synch_text": Placement(("lips", "phonemes", "synch"), ("clip",)),
}


@dataclasses.dataclass(frozen=True)
class ConditionWidths:
    """Channels of one condition as extracted and as the network sees it."""

    features: int
    projected: int


class Conditioning(NamedTuple):
    """What the transformer is given of a clip: computed once, used at every flow time."""

    frames: jax.Array  # [b, t, d], already in model width
    context: jax.Array  # [b, s, e], the speaker first


class Projector(nnx.Module):
    """Linear, SiLU, Linear without biases, twice as wide inside. [..., i] -> [..., o]."""

    def __init__(self, features: int, projected: int, *, rngs: nnx.Rngs):
        inner = 2 * projected
        self.inner = Linear((features, inner), ("features", "projector"), rngs=rngs)
        self.outer = Linear((inner, projected), ("projector", "condition"), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(nnx.silu(self.inner(x)))


class PhonemeEmbedding(nnx.Module):
    """A vector per phoneme id; id 0 (no phoneme) has a learned one too. [b, t] -> [b, t, o]."""

    def __init__(self, projected: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.normal(1.0)
        self.table_vo = weight(rngs, (VOCABULARY, projected), ("vocabulary", "condition"), init)

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.table_vo[...][ids]


class ConditionEncoder(nnx.Module):
    """Projects the features of a clip and adds them up into a `Conditioning`."""

    def __init__(
        self,
        placement: Placement,
        widths: Mapping[str, ConditionWidths],
        speaker_features: int,
        model_width: int,
        *,
        rngs: nnx.Rngs,
    ):
        self.placement = placement
        self.model_width = model_width
        names = placement.concatenated + placement.attended
        self.projectors = nnx.Dict(
            {
                name: PhonemeEmbedding(widths[name].projected, rngs=rngs)
                if name == "phonemes"
                else Projector(widths[name].features, widths[name].projected, rngs=rngs)
                for name in names
            }
        )
        # One input matrix a condition, in place of one for all of them side by side.
        self.inputs = nnx.Dict(
            {
                name: Linear((widths[name].projected, model_width), ("channel", "embed"), rngs=rngs)
                for name in placement.concatenated
            }
        )
        self.speaker = Projector(speaker_features, context_width(placement, widths), rngs=rngs)

    def __call__(
        self,
        features: Features,
        frame_masks: Mapping[str, jax.Array],
        keep: jax.Array,
        dtype: jnp.dtype,
    ) -> Conditioning:
        """Condition on `features`.

        Args:
          features: each condition at the latent rate: ids [b, t] for phonemes, [b, i] for the
            speaker, [b, t, i] for the others. A missing one is zeros.
          frame_masks: for any of `MASKABLE`, 0 where a projected frame is hidden, else 1; [b, t].
          keep: 0 for clips whose conditions are all dropped, else 1; [b].
          dtype: of the computation.
        """
        projected = {}
        for name, projector in self.projectors.items():
            value = features[name]
            value = projector(value if name == "phonemes" else value.astype(dtype))
            if name in frame_masks:
                value = value * frame_masks[name][..., None]
            projected[name] = value.astype(dtype)  # [b, t, o]
        speaker = self.speaker(features["speaker"].astype(dtype))[:, None]  # [b, 1, e]
        attended = jnp.concatenate([projected[n] for n in self.placement.attended], axis=-1)
        context = jnp.concatenate([speaker, attended], axis=1)  # [b, s, e]
        frames = jnp.zeros((*attended.shape[:2], self.model_width), dtype)
        for name in self.placement.concatenated:
            frames = frames + self.inputs[name](projected[name])  # [b, t, d]
        keep = keep.astype(dtype)[:, None, None]
        return Conditioning(frames * keep, context * keep)


def context_width(placement: Placement, widths: Mapping[str, ConditionWidths]) -> int:
    """Channels of a context token, `e`."""
    return sum(widths[name].projected for name in placement.attended)
