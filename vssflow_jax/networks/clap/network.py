"""LAION-CLAP: a network of sound and one of text, whose vectors lie in one space.

Weights: `music_speech_audioset_epoch_15_esc_89.98.pt` of `lukewys/laion_clap` on Hugging Face, CC0
1.0 as LAION's repository is, or the folders `laion/larger_clap_general` (the same weights) and
`laion/clap-htsat-unfused` there, Apache-2.0; `vssflow_jax.networks.clap.convert` imports either.

Letters: b sounds or texts, t frames, m mel bands, n tokens, d width, e width of the space.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import LayerNorm, Linear, fan_in_of, weight, zeros
from vssflow_jax.networks.clap.sound import Sound, SoundConfig
from vssflow_jax.networks.layers import (
    Block,
    BlockConfig,
    attend_to_all,
    attend_to_own,
    run_stack,
    stack,
)


@dataclasses.dataclass(frozen=True)
class ClapConfig(SoundConfig):
    """Sizes of the network, those of its sound too; the defaults are the published ones.

    Attributes:
      embedding: e.
      text_width, text_layers, text_heads, text_inner_width: of the transformer of text.
      text_epsilon: of its norms: RoBERTa's, and 1e-12 in transformers' copies of the weights.
      vocabulary: tokens that there are.
      tokens: the most that a text may have.
    """

    embedding: int = 512
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    text_inner_width: int = 3072
    text_epsilon: float = 1e-5
    vocabulary: int = 50_265
    tokens: int = 512

    @property
    def text_block(self) -> BlockConfig:
        return BlockConfig(
            self.text_width,
            self.text_heads,
            self.text_inner_width,
            epsilon=self.text_epsilon,
            norm_first=False,
        )


class Clap(nnx.Module):
    """`sound` of ten seconds and `text` of tokens give vectors of length 1 in one space."""

    def __init__(self, cfg: ClapConfig, *, rngs: nnx.Rngs):
        self.sound_side = Sound(cfg, rngs=rngs)
        self.sound_projection = Projection(cfg.blocks[-1].width, cfg.embedding, rngs=rngs)
        self.text_side = Text(cfg, rngs=rngs)
        self.text_projection = Projection(cfg.text_width, cfg.embedding, rngs=rngs)

    def sound(self, log_mels: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Log-mels [b, t, m] as `mel.log_mels` makes them to float32 [b, e]."""
        return self.sound_projection(self.sound_side(log_mels, dtype))

    def text(
        self,
        tokens: jax.Array,
        dtype: DTypeLike = jnp.float32,
        lengths: jax.Array | None = None,
    ) -> jax.Array:
        """Tokens int32 [b, n] as `tokens.Tokenizer` makes them to float32 [b, e].

        Args:
          tokens: of texts; what goes beyond their lengths is padding, and changes nothing.
          dtype: that branches compute in.
          lengths: int32 [b], tokens of each text; None: all are as long as the longest.
        """
        return self.text_projection(self.text_side(tokens, dtype, lengths))


class Text(nnx.Module):
    """RoBERTa (Liu et al. 2019, arXiv 1907.11692): tokens [b, n] of texts to float32 [b, d]."""

    def __init__(self, cfg: ClapConfig, *, rngs: nnx.Rngs):
        d = cfg.text_width
        self.tokens_vd = weight(rngs, (cfg.vocabulary, d), ("vocabulary", "embed"), fan_in_of(1))
        self.places_nd = weight(rngs, (cfg.tokens, d), ("tokens", "embed"), zeros)
        self.norm = LayerNorm(d, rngs=rngs, epsilon=cfg.text_epsilon)
        self.blocks = stack(cfg.text_layers, lambda rngs: Block(cfg.text_block, rngs=rngs), rngs)
        self.pool = Linear((d, d), ("embed_in", "embed"), rngs=rngs, bias=True)

    def __call__(self, tokens: jax.Array, dtype: DTypeLike, lengths: jax.Array | None) -> jax.Array:
        """Computes in `dtype`, with a residual stream in float32; see `Clap.text`."""
        x = self.tokens_vd[...][tokens] + self.places_nd[: tokens.shape[1]]
        x = self.norm(x, jnp.float32)
        mix = attend_to_all if lengths is None else attend_to_own(lengths)
        x = run_stack(self.blocks, x, lambda block, x: block(x, dtype, mix))
        return jnp.tanh(self.pool(x[:, 0]))


class Projection(nnx.Module):
    """Into the space of both, float32 [b, d] -> [b, e], of length 1."""

    def __init__(self, width: int, embedding: int, *, rngs: nnx.Rngs):
        self.inner = Linear((width, embedding), ("embed_in", "embed"), rngs=rngs, bias=True)
        self.outer = Linear((embedding, embedding), ("embed_in", "embed"), rngs=rngs, bias=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.outer(jax.nn.relu(self.inner(x)))
        return y / jnp.linalg.norm(y, axis=-1, keepdims=True)
