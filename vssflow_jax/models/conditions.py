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

from vssflow_jax.models.layers import Linear, weight

Features = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Placement:
    """Names of the conditions beside the latent, and of those that are attended to, in order."""

    concatenated: tuple[str, ...]
    attended: tuple[str, ...]


PLACEMENTS = {
    "none": Placement((), ("visual", "phonemes", "lips", "sync")),
    "video_text": Placement(("visual", "phonemes"), ("sync", "lips")),
    "lip_synch": Placement(("lips", "sync"), ("visual", "phonemes")),
    "lip_synch_text": Placement(("lips", "phonemes", "sync"), ("visual",)),
    # Nothing is attended to: both attentions are self-attention, the speaker joins the time token.
    "lip_synch_video_text": Placement(("visual", "phonemes", "lips", "sync"), ()),
}


@dataclasses.dataclass(frozen=True)
class ConditionWidths:
    """Channels of one condition as extracted (for phonemes: ids) and as the network sees it."""

    features: int
    projected: int


class Conditioning(NamedTuple):
    """What the transformer is given of a clip: computed once, used at every flow time."""

    frames: jax.Array  # [b, t, d], added to the latent's frames, already in model width
    context: jax.Array | None  # [b, s, e], the speaker first; None where nothing is attended to
    token: jax.Array | None  # [b, d], added to the time token; None where there is a context


class Projector(nnx.Module):
    """Linear, SiLU, Linear without biases, twice as wide inside. [..., i] -> [..., o]."""

    def __init__(self, widths: ConditionWidths, *, rngs: nnx.Rngs):
        features, projected = widths.features, widths.projected
        self.inner = Linear((features, 2 * projected), ("features", "projector"), rngs=rngs)
        self.outer = Linear((2 * projected, projected), ("projector", "condition"), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(nnx.silu(self.inner(x)))


class SpeakerToken(nnx.Module):
    """Brings the projected speaker to model width, without biases. [b, o] -> [b, d]."""

    def __init__(self, widths: ConditionWidths, model_width: int, *, rngs: nnx.Rngs):
        self.inner = Linear((widths.projected, model_width), ("condition", "embed"), rngs=rngs)
        self.outer = Linear((model_width, model_width), ("embed_in", "embed"), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(nnx.silu(self.inner(x)))


class PhonemeEmbedding(nnx.Module):
    """A vector per phoneme id; id 0 (no phoneme) has a learned one too. [b, t] -> [b, t, o]."""

    def __init__(self, widths: ConditionWidths, *, rngs: nnx.Rngs):
        shape, axes = (widths.features, widths.projected), ("vocabulary", "condition")
        self.table_vo = weight(rngs, shape, axes, nnx.initializers.normal(1.0))

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.table_vo[...][ids]


class ConditionEncoder(nnx.Module):
    """Projects the features of a clip and adds them up into a `Conditioning`."""

    def __init__(
        self,
        placement: Placement,
        widths: Mapping[str, ConditionWidths],
        model_width: int,
        *,
        rngs: nnx.Rngs,
    ):
        self.placement = placement
        self.model_width = model_width
        self.context_width = context_width(placement, widths)
        names = placement.concatenated + placement.attended
        self.projectors = nnx.Dict(
            {
                name: (PhonemeEmbedding if name == "phonemes" else Projector)(
                    widths[name], rngs=rngs
                )
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
        self.speaker = Projector(widths["speaker"], rngs=rngs)
        if not placement.attended:
            self.speaker_to_token = SpeakerToken(widths["speaker"], model_width, rngs=rngs)

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
          frame_masks: for any of them, 0 where a projected frame is hidden, else 1; [b, t].
          keep: 0 for clips whose conditions are all dropped, else 1; [b].
          dtype: dtype of the computation.
        """
        projected = {}
        for name, projector in self.projectors.items():
            value = features[name]
            value = projector(value if name == "phonemes" else value.astype(dtype))
            if name in frame_masks:
                value = value * frame_masks[name][..., None]
            projected[name] = value.astype(dtype)  # [b, t, o]
        speaker = self.speaker(features["speaker"].astype(dtype))  # [b, o]
        keep = keep.astype(dtype)[:, None]
        frames = jnp.zeros((*features["phonemes"].shape, self.model_width), dtype)
        for name in self.placement.concatenated:
            frames = frames + self.inputs[name](projected[name])  # [b, t, d]
        frames = frames * keep[..., None]
        if not self.placement.attended:
            return Conditioning(frames, None, self.speaker_to_token(speaker) * keep)
        first = jnp.pad(speaker, ((0, 0), (0, self.context_width - speaker.shape[-1])))
        attended = jnp.concatenate([projected[n] for n in self.placement.attended], axis=-1)
        context = jnp.concatenate([first[:, None], attended], axis=1)  # [b, s, e]
        return Conditioning(frames, context * keep[..., None], None)


def context_width(placement: Placement, widths: Mapping[str, ConditionWidths]) -> int:
    """Channels of a context token, `e`; 0 where nothing is attended to."""
    return sum(widths[name].projected for name in placement.attended)
