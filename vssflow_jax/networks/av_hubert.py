"""AV-HuBERT (Shi et al. 2022, arXiv 2201.02184) on pictures alone: what lips say, stream `lips`.

Written from the paper, from HuBERT in transformers and from the lip-reading ResNet of Stafylakis
and Tzimiropoulos (2017, arXiv 1703.04105). Weights: for non-commercial research only,
`self_large_vox_433h.pt` of their owner; `vssflow_jax.networks.convert_av_hubert` imports them.

Letters: b clips, t frames, c channels of a map, d width.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import LayerNorm, Linear
from vssflow_jax.networks.layers import BatchNorm, Conv, PReLU, max_pool
from vssflow_jax.networks.wav2vec import Trunk, TrunkConfig, without_padding

BLOCKS_OF_A_LAYER = 2  # of a ResNet-18
STEM_FRAMES = 5  # that its first convolution sees at once
_STEM_WINDOW = 7
_WHITE = 255.0
# Of the grey mouths that it was trained on.
_MEAN, _STD = 0.421, 0.165


@dataclasses.dataclass(frozen=True)
class AVHubertConfig(TrunkConfig):
    """Sizes of the network, those of its transformer too; the defaults are the large one's.

    Attributes:
      channels: of the maps of the four layers of the ResNet; those of the first before them too.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512)


class AVHubert(nnx.Module):
    """Mouths as `normalise` makes them [b, t, h, w] to float32 features [b, t, d]."""

    def __init__(self, cfg: AVHubertConfig, *, rngs: nnx.Rngs):
        d = cfg.width
        self.resnet = ResNet(cfg.channels, rngs=rngs)
        self.project = Linear((cfg.channels[-1], d), ("channel", "embed"), rngs=rngs, bias=True)
        self.norm = LayerNorm(2 * d, rngs=rngs, epsilon=cfg.epsilon)
        self.fuse = Linear((2 * d, d), ("embed_in", "embed"), rngs=rngs, bias=True)
        self.trunk = Trunk(cfg, rngs=rngs)

    def __call__(
        self, mouths: jax.Array, dtype: DTypeLike = jnp.float32, frames: jax.Array | None = None
    ) -> jax.Array:
        """Computes in `dtype`, with a residual stream in float32.

        Args:
          mouths: what goes in.
          dtype: of the branches.
          frames: int32 [b], how many frames each clip has; the rest is padding, of which those
            frames know nothing. None: all are full.
        """
        if frames is not None:
            mouths = without_padding(mouths, frames)
        video = self.front_end(mouths, dtype)
        # There is no sound, whose features come before those of the video.
        both = jnp.concatenate([jnp.zeros_like(video), video], axis=-1)
        fused = self.fuse(self.norm(both, dtype))
        return self.trunk(fused.astype(jnp.float32), dtype, frames)

    def front_end(self, mouths: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Features of the video before they are fused, [b, t, d] in `dtype`."""
        return self.project(self.resnet(jnp.asarray(mouths, dtype)))


class ResNet(nnx.Module):
    """A ResNet-18 whose first convolution spans frames. [b, t, h, w] -> [b, t, c]."""

    def __init__(self, channels: tuple[int, ...], *, rngs: nnx.Rngs):
        stem = channels[0]
        self.stem = Conv(
            (_STEM_WINDOW,) * 2,
            STEM_FRAMES,
            stem,
            rngs=rngs,
            stride=2,
            padding=_STEM_WINDOW // 2,
            bias=False,
        )
        self.norm = BatchNorm(stem, rngs=rngs)
        self.activation = PReLU(stem, rngs=rngs)
        strides = (1, *(2,) * (len(channels) - 1))
        self.layers = nnx.List(
            Layer(before, after, stride, rngs=rngs)
            for before, after, stride in zip((stem, *channels), channels, strides, strict=False)
        )

    def __call__(self, mouths: jax.Array) -> jax.Array:
        b, t, *size = mouths.shape
        # Neighbouring frames as the channels of a picture: a convolution over space then does what
        # one over time and space would, which CPUs are ten times slower at.
        aside = STEM_FRAMES // 2
        padded = jnp.pad(mouths, ((0, 0), (aside, aside), (0, 0), (0, 0)))
        near = jnp.stack([padded[:, i : i + t] for i in range(STEM_FRAMES)], axis=-1)
        x = self.activation(self.norm(self.stem(near.reshape(b * t, *size, STEM_FRAMES))))
        x = max_pool(x, 3, stride=2, padding=1)
        for layer in self.layers:
            x = layer(x)
        mean = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
        return mean.astype(x.dtype).reshape(b, t, -1)


class Layer(nnx.Module):
    """Blocks at one size of maps. [b t, h, w, c] -> [b t, h / stride, w / stride, c']."""

    def __init__(self, before: int, after: int, stride: int, *, rngs: nnx.Rngs):
        rest = ((after, 1),) * (BLOCKS_OF_A_LAYER - 1)
        self.blocks = nnx.List(
            BasicBlock(width, after, step, rngs=rngs) for width, step in ((before, stride), *rest)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return x


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a residual, which is a 1x1 convolution where shapes differ."""

    def __init__(self, before: int, after: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = Conv((3, 3), before, after, rngs=rngs, stride=stride, padding=1, bias=False)
        self.norm1 = BatchNorm(after, rngs=rngs)
        self.activation1 = PReLU(after, rngs=rngs)
        self.conv2 = Conv((3, 3), after, after, rngs=rngs, padding=1, bias=False)
        self.norm2 = BatchNorm(after, rngs=rngs)
        self.shortcut = (
            None if (before, stride) == (after, 1) else Shortcut(before, after, stride, rngs=rngs)
        )
        self.activation2 = PReLU(after, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.activation1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return self.activation2(y + (x if self.shortcut is None else self.shortcut(x)))


class Shortcut(nnx.Module):
    """A 1x1 convolution and its norm. [b t, h, w, c] -> [b t, h / stride, w / stride, c']."""

    def __init__(self, before: int, after: int, stride: int, *, rngs: nnx.Rngs):
        self.conv = Conv((1, 1), before, after, rngs=rngs, stride=stride, bias=False)
        self.norm = BatchNorm(after, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


def normalise(mouths: np.ndarray | jax.Array) -> jax.Array:
    """Grey mouths [..., h, w] of 0 to 255 as the network takes them, float32."""
    return (jnp.asarray(mouths, jnp.float32) / _WHITE - _MEAN) / _STD
