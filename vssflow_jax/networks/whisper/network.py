"""Whisper's encoder of sound and its decoder of tokens, which keeps what it has read.

Weights: MIT, `openai/whisper-*` of Hugging Face, or CTranslate2's files of the same;
`vssflow_jax.networks.whisper.convert` imports either.

Letters: b examples, r rows of tokens, as many for each example, n tokens, t frames of the encoder,
m mel bands, d width, h heads, k head width, l layers, v tokens of the vocabulary.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import LayerNorm, fan_in_of, weight, zeros
from vssflow_jax.networks.layers import (
    Attention,
    Block,
    BlockConfig,
    Conv,
    FeedForward,
    attend_to_all,
    gelu,
    run_stack,
    stack,
)


@dataclasses.dataclass(frozen=True)
class WhisperConfig:
    """Sizes of the network; the defaults are large-v3's.

    Attributes:
      frames: that the encoder makes of a window, half as many as there are of mel.
      tokens: the most that the decoder reads.
      vocabulary: tokens that there are.
    """

    width: int = 1280
    heads: int = 20
    inner_width: int = 5120
    encoder_layers: int = 32
    decoder_layers: int = 32
    bands: int = 128
    frames: int = 1500
    tokens: int = 448
    vocabulary: int = 51_866

    @property
    def block(self) -> BlockConfig:
        return BlockConfig(self.width, self.heads, self.inner_width, biased="qv")


class Pairs(NamedTuple):
    """Keys and values that attention reads, of all layers, [l, r, n, h, k] each."""

    keys: jax.Array
    values: jax.Array


class Encoder(nnx.Module):
    """Log-mels of a window [b, 2 t, m] to what is heard in it, float32 [b, t, d]."""

    def __init__(self, cfg: WhisperConfig, *, rngs: nnx.Rngs):
        d = cfg.width
        self.conv1 = Conv((3,), cfg.bands, d, rngs=rngs, padding=1)
        self.conv2 = Conv((3,), d, d, rngs=rngs, padding=1, stride=2)
        self.positions_td = weight(rngs, (cfg.frames, d), ("tokens", "embed"), zeros)
        self.blocks = stack(cfg.encoder_layers, lambda rngs: Block(cfg.block, rngs=rngs), rngs)
        self.norm = LayerNorm(d, rngs=rngs)

    def __call__(self, log_mels: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Computes in `dtype`, with a residual stream in float32."""
        x = gelu(self.conv1(jnp.asarray(log_mels, dtype)))
        x = gelu(self.conv2(x)).astype(jnp.float32) + self.positions_td
        x = run_stack(self.blocks, x, lambda block, x: block(x, dtype))
        return self.norm(x, jnp.float32)


class DecoderBlock(nnx.Module):
    """Attention to the tokens before, attention to the sound, feed-forward; a residual each."""

    def __init__(self, cfg: BlockConfig, *, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(cfg.width, rngs=rngs, epsilon=cfg.epsilon)
        self.attention = Attention(cfg, rngs=rngs)
        self.norm2 = LayerNorm(cfg.width, rngs=rngs, epsilon=cfg.epsilon)
        self.listening = Attention(cfg, rngs=rngs)
        self.norm3 = LayerNorm(cfg.width, rngs=rngs, epsilon=cfg.epsilon)
        self.ffw = FeedForward(cfg, rngs=rngs)

    def __call__(
        self, x: jax.Array, read: Pairs, heard: Pairs, layer: jax.Array, start: jax.Array | int
    ) -> tuple[jax.Array, Pairs]:
        """float32 [r, n, d], of tokens from `start` on, and `read` with theirs.

        Args:
          x: the same of the layer before.
          read: of all layers and all tokens, [l, r, ...]; the branches compute in its dtype.
          heard: of this layer, [b, t, h, k]; r is a multiple of b.
          layer: which one this is.
          start: how many tokens have been read before.
        """
        dtype = read.keys.dtype
        normed = self.norm1(x, dtype)
        new = Pairs(self.attention.k(normed), self.attention.v(normed))
        place = (layer, 0, start, 0, 0)
        read = Pairs(
            *(
                jax.lax.dynamic_update_slice(old, own[None], place)
                for old, own in zip(read, new, strict=True)
            )
        )
        keys, values = (
            jax.lax.dynamic_index_in_dim(pairs, layer, keepdims=False) for pairs in read
        )
        seen = jnp.arange(keys.shape[1]) <= start + jnp.arange(x.shape[1])[:, None]  # [n, tokens]
        found = jax.nn.dot_product_attention(
            self.attention.q(normed), keys, values, mask=seen[None, None]
        )
        x = x + self.attention.out(found)
        q = self.listening.q(self.norm2(x, dtype))  # [r, n, h, k]
        # Rows of one example read the same sound: to it they are so many tokens more.
        found = attend_to_all(q.reshape(len(heard.keys), -1, *q.shape[2:]), *heard)
        x = x + self.listening.out(found.reshape(q.shape))
        return x + self.ffw(self.norm3(x, dtype)), read


class Decoder(nnx.Module):
    """Which token comes next, after those that were read and the sound that is heard."""

    def __init__(self, cfg: WhisperConfig, *, rngs: nnx.Rngs):
        d = cfg.width
        self.tokens_vd = weight(rngs, (cfg.vocabulary, d), ("vocabulary", "embed"), fan_in_of(1))
        self.positions_nd = weight(rngs, (cfg.tokens, d), ("tokens", "embed"), zeros)
        self.blocks = stack(
            cfg.decoder_layers, lambda rngs: DecoderBlock(cfg.block, rngs=rngs), rngs
        )
        self.norm = LayerNorm(d, rngs=rngs)

    def listen(self, encoded: jax.Array, dtype: DTypeLike) -> Pairs:
        """What the blocks read of the encoder's [b, t, d], in the dtype to compute in."""
        definition, stacked = nnx.split(self.blocks)
        encoded = encoded.astype(dtype)

        def run(_: None, weights: nnx.State) -> tuple[None, Pairs]:
            listening = nnx.merge(definition, weights).listening
            return None, Pairs(listening.k(encoded), listening.v(encoded))

        return jax.lax.scan(run, None, stacked)[1]

    def nothing(self, rows: int, tokens: int, heard: Pairs) -> Pairs:
        """Room for what is read of so many tokens."""
        layers, _, _, *heads = heard.keys.shape
        empty = jnp.zeros((layers, rows, tokens, *heads), heard.keys.dtype)
        return Pairs(empty, empty)

    def __call__(
        self, tokens: jax.Array, read: Pairs, heard: Pairs, start: jax.Array | int
    ) -> tuple[jax.Array, Pairs]:
        """Reads tokens int32 [r, n] after `start` others.

        Returns:
          the stream behind the last block, float32 [r, n, d], and `read` with these tokens in it.
        """
        own = tokens.shape[1]
        positions = jax.lax.dynamic_slice_in_dim(self.positions_nd[...], start, own)
        x = self.tokens_vd[...][tokens] + positions
        definition, stacked = nnx.split(self.blocks)

        def run(
            carry: tuple[jax.Array, Pairs], inputs: tuple[nnx.State, Pairs, jax.Array]
        ) -> tuple[tuple[jax.Array, Pairs], None]:
            weights, heard, layer = inputs
            return nnx.merge(definition, weights)(*carry, heard, layer, start)[:2], None

        # What is read is carried rather than scanned over, so that it is written in place.
        layers = jnp.arange(len(heard.keys))
        (x, read), _ = jax.lax.scan(run, (x, read), (stacked, heard, layers))
        return x, read

    def logits(self, x: jax.Array, dtype: DTypeLike) -> jax.Array:
        """Of the token behind each, float32 [..., d] -> [..., v]."""
        return jnp.einsum(
            "...d,vd->...v",
            self.norm(x, dtype),
            self.tokens_vd.astype(dtype),
            preferred_element_type=jnp.float32,
        )


class Whisper(nnx.Module):
    """Log-mels [b, 2 t, m] and tokens int32 [b, n] to logits of those behind them, [b, n, v]."""

    def __init__(self, cfg: WhisperConfig, *, rngs: nnx.Rngs):
        self.encoder = Encoder(cfg, rngs=rngs)
        self.decoder = Decoder(cfg, rngs=rngs)

    def __call__(
        self, log_mels: jax.Array, tokens: jax.Array, dtype: DTypeLike = jnp.float32
    ) -> jax.Array:
        """Computes in `dtype`, with a residual stream in float32."""
        rows, n = tokens.shape
        heard = self.decoder.listen(self.encoder(log_mels, dtype), dtype)
        x, _ = self.decoder(tokens, self.decoder.nothing(rows, n, heard), heard, 0)
        return self.decoder.logits(x, dtype)
