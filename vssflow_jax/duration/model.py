"""The duration predictor: which phoneme each lip frame shows (REFERENCE section 8).

Lip frames attend to phonemes; the last map of that attention, hardened to a monotonic path, says
how long each phoneme lasts. It takes the place of the uniform stretch where that is wanted.

Letters: b clips, t lip frames, p phonemes, n tokens, s attended tokens, d width, h heads, k head
width, l decoder layers, o output channels.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import librosa
import ml_collections
import numpy as np
from flax import nnx

from vssflow_jax.models.layers import LayerNorm, Linear, weight
from vssflow_jax.utils.errors import UserError

VOCABULARY = 1001
SINUSOID_BASE = 10_000.0

# What leads to a cell of the path, as (frames, phonemes) back; of equals the first is taken.
_STEPS = ((1, 0), (0, 1), (1, 1))


@dataclasses.dataclass(frozen=True)
class DurationConfig:
    """Sizes of the duration predictor; the defaults are the published ones.

    Attributes:
      phoneme_features, lip_features: of a phoneme's embedding and of a lip frame.
      phoneme_width, phoneme_heads, lip_width, lip_heads: of the two encoders.
      encoder_layers: encoder layers of either.
      encoded: channels that both hand to the decoder.
      decoder_width, decoder_heads, decoder_layers: of the decoder.
      decoded: channels that it hands to the output map.
      outputs: output channels.
      ffw_width: width of the feed-forward maps everywhere.
    """

    phoneme_features: int = 64
    lip_features: int = 1024
    phoneme_width: int = 1024
    phoneme_heads: int = 8
    lip_width: int = 1024
    lip_heads: int = 8
    encoder_layers: int = 4
    encoded: int = 1024
    decoder_width: int = 512
    decoder_heads: int = 1
    decoder_layers: int = 4
    decoded: int = 256
    outputs: int = 2
    ffw_width: int = 1024

    def __post_init__(self) -> None:
        """Raises UserError for sizes that do not go together."""
        for name in ("phoneme", "lip", "decoder"):
            width, heads = self.sizes(name)
            if heads < 1 or width < 1 or width % heads or width % 2:
                raise UserError(
                    f"model.{name}_width is {width}; it must be even and a multiple of "
                    f"model.{name}_heads, {heads}"
                )

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "DurationConfig":
        """From the `model` section of a config."""
        return cls(**config)

    def sizes(self, name: str) -> tuple[int, int]:
        """Width and heads of "phoneme", "lip" or "decoder"."""
        return getattr(self, f"{name}_width"), getattr(self, f"{name}_heads")


def sinusoids(num_positions: int, width: int) -> np.ndarray:
    """Position table, float32 [num_positions, width]: sines in even, cosines in odd channels."""
    frequency = SINUSOID_BASE ** -(np.arange(0, width, 2) / width)
    angle = np.arange(num_positions)[:, None] * frequency
    waves = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    return waves.reshape(num_positions, width).astype(np.float32)


class Attention(nnx.Module):
    """Multi-head attention with biases, which also says where it looked."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.q, self.k, self.v = (
            Linear((width, width), ("embed", "heads"), rngs=rngs, bias=True) for _ in range(3)
        )
        self.out = Linear((width, width), ("heads", "embed"), rngs=rngs, bias=True)

    def __call__(
        self, x: jax.Array, source: jax.Array, seen: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Attend from x to the tokens of source that are seen.

        Args:
          x: [b, n, d].
          source: [b, s, d].
          seen: bool [b, s]; None for all.

        Returns:
          [b, n, d], and the share of each source token, a mean over heads, [b, n, s].
        """
        q, k, v = self._heads(self.q(x)), self._heads(self.k(source)), self._heads(self.v(source))
        scores = jnp.einsum("bnhk,bshk->bhns", q, k) / np.sqrt(q.shape[-1])
        if seen is not None:
            scores = jnp.where(seen[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
        shares = jax.nn.softmax(scores)
        mixed = jnp.einsum("bhns,bshk->bnhk", shares, v)
        return self.out(mixed.reshape(x.shape)), jnp.mean(shares, axis=1)

    def _heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)


class FeedForward(nnx.Module):
    """Linear, ReLU, Linear, ReLU, Linear. [..., d] -> [..., d]."""

    def __init__(self, width: int, inner: int, *, rngs: nnx.Rngs):
        self.inner = Linear((width, inner), ("embed", "ffw"), rngs=rngs, bias=True)
        self.middle = Linear((inner, inner), ("features", "ffw"), rngs=rngs, bias=True)
        self.outer = Linear((inner, width), ("ffw", "embed"), rngs=rngs, bias=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(nnx.relu(self.middle(nnx.relu(self.inner(x)))))


class Layer(nnx.Module):
    """Self-attention, attention to a source where there is one, and feed-forward.

    Each is added to its input and normed after.
    """

    def __init__(self, width: int, heads: int, ffw_width: int, *, sourced: bool, rngs: nnx.Rngs):
        self.self_attention = Attention(width, heads, rngs=rngs)
        self.norm1 = LayerNorm(width, rngs=rngs)
        if sourced:
            self.cross_attention = Attention(width, heads, rngs=rngs)
            self.norm2 = LayerNorm(width, rngs=rngs)
        self.ffw = FeedForward(width, ffw_width, rngs=rngs)
        if sourced:
            self.norm3 = LayerNorm(width, rngs=rngs)
        else:
            self.norm2 = LayerNorm(width, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        seen: jax.Array | None,
        source: jax.Array | None,
        source_seen: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """x [b, n, d], source [b, s, d] -> [b, n, d], and where x looks at the source [b, n, s].

        `seen` [b, n] and `source_seen` [b, s] say which of them may be attended to.
        """
        x = self.norm1(x + self.self_attention(x, x, seen)[0], x.dtype)
        if source is None:
            return self.norm2(x + self.ffw(x), x.dtype), None
        mixed, shares = self.cross_attention(x, source, source_seen)
        x = self.norm2(x + mixed, x.dtype)
        return self.norm3(x + self.ffw(x), x.dtype), shares


class Stack(nnx.Module):
    """Layers between two linear maps, and one more for the source where there is one.

    Args:
      cfg: has the width and the heads of `name`.
      name: "phoneme", "lip" or "decoder"; the last one is sourced.
      features, out: channels that come in, of the source too, and that go out.
    """

    def __init__(self, cfg: DurationConfig, name: str, features: int, out: int, *, rngs: nnx.Rngs):
        width, heads, sourced = *cfg.sizes(name), name == "decoder"
        axes = ("features", "embed")
        self.into = Linear((features, width), axes, rngs=rngs, bias=True)
        if sourced:
            self.source_into = Linear((features, width), axes, rngs=rngs, bias=True)
        self.layers = _stack(
            cfg.decoder_layers if sourced else cfg.encoder_layers,
            lambda rngs: Layer(width, heads, cfg.ffw_width, sourced=sourced, rngs=rngs),
            rngs,
        )
        self.out = Linear((width, out), axes[::-1], rngs=rngs, bias=True)

    def __call__(
        self,
        x: jax.Array,
        seen: jax.Array | None = None,
        source: jax.Array | None = None,
        source_seen: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """x [b, n, i], source [b, s, i] -> [b, n, o] and the layers' maps [l, b, n, s], if any.

        `seen` [b, n] and `source_seen` [b, s] say what may be attended to; None for all.
        """
        x = _with_positions(self.into(x))
        if source is not None:
            source = _with_positions(self.source_into(source))
        definition, stacked = nnx.split(self.layers)

        def run(x: jax.Array, weights: nnx.State) -> tuple[jax.Array, jax.Array | None]:
            return nnx.merge(definition, weights)(x, seen, source, source_seen)

        x, maps = jax.lax.scan(run, x, stacked)
        return self.out(x), maps


class DurationPredictor(nnx.Module):
    """Phonemes and lip frames to the maps that align them.

    The reference pads the clips of a batch and attends to the padding too; so does this, unless it
    is told what to look at.
    """

    def __init__(self, cfg: DurationConfig, *, rngs: nnx.Rngs):
        shape, axes = (VOCABULARY, cfg.phoneme_features), ("vocabulary", "features")
        self.table_vi = weight(rngs, shape, axes, nnx.initializers.normal(1.0))
        self.phoneme_encoder = Stack(cfg, "phoneme", cfg.phoneme_features, cfg.encoded, rngs=rngs)
        self.lip_encoder = Stack(cfg, "lip", cfg.lip_features, cfg.encoded, rngs=rngs)
        self.decoder = Stack(cfg, "decoder", cfg.encoded, cfg.decoded, rngs=rngs)
        self.out = Linear((cfg.decoded, cfg.outputs), ("features", "channel"), rngs=rngs, bias=True)

    def __call__(
        self,
        phonemes: jax.Array,
        lips: jax.Array,
        phonemes_seen: jax.Array | None = None,
        lips_seen: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Align a batch.

        Args:
          phonemes: ids, int [b, p].
          lips: lip features [b, t, i].
          phonemes_seen, lips_seen: bool [b, p] and [b, t], False at padding; None for all. With
            both, a clip's results do not depend on how far it was padded.

        Returns:
          [b, t, o], which the reference's training makes no use of, and for each decoder layer
          where each lip frame looks, a mean over heads, [l, b, t, p].
        """
        asked, _ = self.phoneme_encoder(self.embed(phonemes).astype(lips.dtype), phonemes_seen)
        asking, _ = self.lip_encoder(lips, lips_seen)
        decoded, maps = self.decoder(asking, lips_seen, asked, phonemes_seen)
        return self.out(decoded), maps

    def embed(self, phonemes: jax.Array) -> jax.Array:
        """Ids, int [b, p] -> [b, p, i]."""
        return self.table_vi[...][phonemes]


def best_path(attention: np.ndarray) -> np.ndarray:
    """The monotonic path from the first frame and phoneme to the last that gathers most.

    Each step goes to the next frame, to the next phoneme, or to both at once; a cell adds its
    attention - 1, so that detours cost. Of equally good steps the first of `_STEPS` is taken.

    Args:
      attention: [t, p], neither axis empty.

    Returns:
      the cells of the path, int [n, 2]: frame and phoneme.
    """
    cost = 1 - attention.astype(np.float64)
    _, cells = librosa.sequence.dtw(C=cost, step_sizes_sigma=np.array(_STEPS))
    return cells[::-1]


def harden(attention: np.ndarray) -> np.ndarray:
    """One phoneme for each frame, from the best path through the map.

    Where the path passes several phonemes in a frame, the one most attended to stands for it.

    Args:
      attention: attention of one clip without padding, [t, p].

    Returns:
      index of the phoneme, int64 [t], never falling.
    """
    frames, phonemes = best_path(attention).T
    passed = np.full(attention.shape, -np.inf)
    passed[frames, phonemes] = attention[frames, phonemes]
    return np.argmax(passed, axis=1)


def _stack(count: int, make: Callable[[nnx.Rngs], nnx.Module], rngs: nnx.Rngs) -> nnx.Module:
    """`count` layers as one, each weight with a leading axis of layers."""
    split = nnx.split_rngs(splits=count)
    return split(nnx.vmap(make, transform_metadata={nnx.PARTITION_NAME: "layers"}))(rngs)


def _with_positions(x: jax.Array) -> jax.Array:
    return x + sinusoids(*x.shape[1:]).astype(x.dtype)
