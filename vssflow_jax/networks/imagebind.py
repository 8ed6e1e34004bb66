"""ImageBind's picture and sound (Girdhar et al. 2023, arXiv 2305.05665): do they show one thing?

Two transformers whose vectors lie in one space. Written from a description of what they compute.
Weights: CC BY-NC-SA 4.0, `imagebind_huge.pth` of their owner;
`vssflow_jax.networks.convert_imagebind` imports those of these two.

Letters: b clips, f bands, t times, n tokens, d width, h heads, k head width.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.audio.mel_bank import triangles
from vssflow_jax.models.layers import LayerNorm, Linear, weight, zeros
from vssflow_jax.networks.layers import (
    Block,
    BlockConfig,
    Conv,
    Mix,
    Patches,
    attend_to_all,
    run_stack,
    stack,
)

SAMPLING_RATE = 16_000
SOUND_SEC = 2.0  # that it hears at once
SOUND_CLIPS = 3  # of a sound
FRAMES = 2  # pictures that it sees at once
_BANDS, _TIMES = 128, 204
_WINDOW, _HOP, _FFT = 400, 160, 512
_LOWEST_HERTZ = 20.0
_PRE_EMPHASIS = 0.97
_SOUND_MEAN, _SOUND_STD = -4.268, 9.138


@dataclasses.dataclass(frozen=True)
class SideConfig:
    """Sizes of one of the two transformers."""

    width: int
    layers: int
    heads: int
    inner_width: int
    tokens: int
    epsilon: float = 1e-6

    @property
    def block(self) -> BlockConfig:
        return BlockConfig(self.width, self.heads, self.inner_width, epsilon=self.epsilon)


@dataclasses.dataclass(frozen=True)
class ImageBindConfig:
    """Sizes of the network; the defaults are those of the published weights.

    Attributes:
      vision_width, vision_layers, vision_heads: of the transformer of pictures.
      sound_width, sound_layers, sound_heads: of that of sound.
      embedding: of the space of both.
      image_size, patch_size: of pictures.
      sound_patch, sound_hop: side of the patches of a log-mel, and the way from one to the next.
    """

    vision_width: int = 1280
    vision_layers: int = 32
    vision_heads: int = 16
    sound_width: int = 768
    sound_layers: int = 12
    sound_heads: int = 12
    embedding: int = 1024
    image_size: int = 224
    patch_size: int = 14
    sound_patch: int = 16
    sound_hop: int = 10

    @property
    def vision(self) -> SideConfig:
        d, tokens = self.vision_width, 1 + (self.image_size // self.patch_size) ** 2
        return SideConfig(d, self.vision_layers, self.vision_heads, 4 * d, tokens)

    @property
    def sound(self) -> SideConfig:
        d = self.sound_width
        rows, columns = (
            (size - self.sound_patch) // self.sound_hop + 1 for size in (_BANDS, _TIMES)
        )
        return SideConfig(d, self.sound_layers, self.sound_heads, 4 * d, 1 + rows * columns)


class ImageBind(nnx.Module):
    """`vision` of pairs of pictures and `sound` of two seconds give vectors in one space."""

    def __init__(self, cfg: ImageBindConfig, *, rngs: nnx.Rngs):
        window = (FRAMES, cfg.patch_size, cfg.patch_size)
        patch = (cfg.sound_patch, cfg.sound_patch)
        see, hear = cfg.vision, cfg.sound
        self.vision_patches = Patches(window, 3, see.width, rngs=rngs, bias=False)
        self.vision_norm = LayerNorm(see.width, rngs=rngs, epsilon=see.epsilon)
        self.vision_side = Side(see, cfg.embedding, rngs=rngs, sink=False)
        self.sound_patches = Conv(patch, 1, hear.width, rngs=rngs, stride=cfg.sound_hop, bias=False)
        self.sound_norm = LayerNorm(hear.width, rngs=rngs)
        self.sound_side = Side(hear, cfg.embedding, rngs=rngs, sink=True)
        self.log_scale = weight(rngs, (), (), zeros)

    def vision(self, pictures: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Pairs of pictures [b, 2, h, w, 3], brought to range as CLIP's, to float32 [b, d]."""
        patches = self.vision_patches(jnp.asarray(pictures, dtype)).astype(jnp.float32)
        x = self.vision_side.tokens(patches.reshape(len(patches), -1, patches.shape[-1]))
        return self.vision_side(self.vision_norm(x, jnp.float32), dtype)

    def sound(self, log_mels: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Log-mels [b, f, t] as `log_mels` makes them to float32 [b, d], 20 long as published."""
        patches = self.sound_patches(jnp.asarray(log_mels, dtype)[..., None])
        x = self.sound_norm(patches.reshape(len(patches), -1, patches.shape[-1]), jnp.float32)
        return self.sound_side(self.sound_side.tokens(x), dtype) * jnp.exp(self.log_scale[...])


class Side(nnx.Module):
    """One of the transformers, from its tokens to a vector of length 1."""

    def __init__(self, cfg: SideConfig, embedding: int, *, rngs: nnx.Rngs, sink: bool):
        d = cfg.width
        kind = SinkBlock if sink else Block
        self.class_token_d = weight(rngs, (d,), ("embed",), zeros)
        self.places_nd = weight(rngs, (cfg.tokens, d), ("tokens", "embed"), zeros)
        self.blocks = stack(cfg.layers, lambda rngs: kind(cfg.block, rngs=rngs), rngs)
        self.norm = LayerNorm(d, rngs=rngs, epsilon=cfg.epsilon)
        self.project = Linear((d, embedding), ("embed_in", "embed"), rngs=rngs)

    def tokens(self, patches: jax.Array) -> jax.Array:
        """Patches [b, n - 1, d] behind the class token, all in their places."""
        first = jnp.broadcast_to(self.class_token_d[...], (len(patches), 1, patches.shape[-1]))
        return jnp.concatenate([first, patches], axis=1) + self.places_nd

    def __call__(self, tokens: jax.Array, dtype: DTypeLike) -> jax.Array:
        """float32 [b, n, d] -> [b, d']."""
        x = run_stack(self.blocks, tokens, lambda block, x: block(x, dtype))
        x = self.project(self.norm(x[:, 0], jnp.float32))
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


class SinkBlock(Block):
    """A block whose queries may also turn to one key that is no token's, and is learned."""

    def __init__(self, cfg: BlockConfig, *, rngs: nnx.Rngs):
        super().__init__(cfg, rngs=rngs)
        axes = ("heads", "head_dim")
        self.key_hk = weight(rngs, cfg.heads_shape, axes, zeros)
        self.value_hk = weight(rngs, cfg.heads_shape, axes, zeros)

    def __call__(self, x: jax.Array, dtype: DTypeLike, mix: Mix = attend_to_all) -> jax.Array:
        """See `Block`."""
        del mix
        return super().__call__(x, dtype, self._with_sink)

    def _with_sink(self, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        key, value = (
            jnp.concatenate([x, jnp.broadcast_to(own.astype(x.dtype), (len(x), 1, *own.shape))], 1)
            for x, own in ((k, self.key_hk[...]), (v, self.value_hk[...]))
        )
        return attend_to_all(q, key, value)


# --------------------------------------------------------------------------------- what it hears
def log_mels(waveforms: jax.Array) -> jax.Array:
    """Two seconds at 16 kHz [b, 32000] as the network takes them, float32 [b, f, t].

    Kaldi's filter bank; what is missing of the frames is zeros, before they are brought to range.
    """
    x = jnp.asarray(waveforms, jnp.float32)
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    starts = _HOP * np.arange(1 + (x.shape[-1] - _WINDOW) // _HOP)
    frames = x[:, starts[:, None] + np.arange(_WINDOW)]
    frames = frames - jnp.mean(frames, axis=-1, keepdims=True)
    before = jnp.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
    hann = np.hanning(_WINDOW).astype(np.float32)
    power = jnp.abs(jnp.fft.rfft((frames - _PRE_EMPHASIS * before) * hann, _FFT)) ** 2
    bands = jnp.matmul(power, _filterbank(), precision=jax.lax.Precision.HIGHEST)
    logs = jnp.log(jnp.maximum(bands, np.finfo(np.float32).eps))[:, :_TIMES]
    logs = jnp.pad(logs, ((0, 0), (0, _TIMES - logs.shape[1]), (0, 0)))
    return (logs.swapaxes(1, 2) - _SOUND_MEAN) / _SOUND_STD


@functools.cache
def _filterbank() -> np.ndarray:
    """Kaldi's, float32 [bins, f]."""
    bank = triangles(SAMPLING_RATE, _FFT, _BANDS, _LOWEST_HERTZ, SAMPLING_RATE / 2)
    return bank.astype(np.float32)
