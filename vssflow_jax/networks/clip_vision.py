"""CLIP's picture encoder (Radford et al. 2021, arXiv 2103.00020): what is seen, stream `clip`.

The features are the class token after the last block, without the norm and the projection that
follow there. Weights: MIT, `ViT-B-16.pt` of OpenAI or `openai/clip-vit-base-patch16` of Hugging
Face; `vssflow_jax.networks.convert_clip` imports either.

Letters: b pictures, n tokens, d width.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import LayerNorm, weight, zeros
from vssflow_jax.networks.layers import Block, BlockConfig, Patches, run_stack, stack

CHANNELS = 3
Colour = tuple[float, float, float]
"""Red, green and blue, 0 to 1."""
# Of the pictures that OpenAI's networks were trained on.
MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
STD: Colour = (0.26862954, 0.26130258, 0.27577711)
_WHITE = 255.0


@dataclasses.dataclass(frozen=True)
class ClipVisionConfig:
    """Sizes of the network, and the scale of its pictures; the defaults are ViT-B/16's."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    inner_width: int = 3072
    image_size: int = 224
    patch_size: int = 16
    activation: str = "quick_gelu"
    epsilon: float = 1e-5
    mean: Colour = MEAN
    std: Colour = STD

    @property
    def tokens(self) -> int:
        """The class token and the patches."""
        return 1 + (self.image_size // self.patch_size) ** 2

    @property
    def block(self) -> BlockConfig:
        return BlockConfig(self.width, self.heads, self.inner_width, self.activation, self.epsilon)


class ClipVision(nnx.Module):
    """Pictures as `normalise` makes them [b, h, w, 3] to float32 features [b, d]."""

    def __init__(self, cfg: ClipVisionConfig, *, rngs: nnx.Rngs):
        d = cfg.width
        window = (cfg.patch_size, cfg.patch_size)
        self.patches = Patches(window, CHANNELS, d, rngs=rngs, bias=False)
        self.class_token_d = weight(rngs, (d,), ("embed",), zeros)
        self.positions_nd = weight(rngs, (cfg.tokens, d), ("tokens", "embed"), zeros)
        self.norm = LayerNorm(d, rngs=rngs, epsilon=cfg.epsilon)
        self.blocks = stack(cfg.layers, lambda rngs: Block(cfg.block, rngs=rngs), rngs)
        self.scale = (cfg.mean, cfg.std)

    def of_pictures(
        self, pictures: np.ndarray | jax.Array, dtype: DTypeLike = jnp.float32
    ) -> jax.Array:
        """Pictures of 0 to 255 [b, h, w, 3] to features [b, d]."""
        return self(normalise(pictures, *self.scale), dtype)

    def __call__(self, pictures: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Computes in `dtype`, with a residual stream in float32."""
        b = len(pictures)
        patches = self.patches(jnp.asarray(pictures, dtype))  # [b, rows, columns, d]
        patches = patches.reshape(b, -1, patches.shape[-1])
        first = jnp.broadcast_to(self.class_token_d[...], (b, 1, patches.shape[-1]))
        x = jnp.concatenate([first, patches.astype(jnp.float32)], axis=1) + self.positions_nd
        x = self.norm(x, jnp.float32)
        return run_stack(self.blocks, x, lambda block, x: block(x, dtype))[:, 0]


def normalise(
    pictures: np.ndarray | jax.Array, mean: Colour = MEAN, std: Colour = STD
) -> jax.Array:
    """Pictures [..., h, w, 3] of 0 to 255 less the mean, in units of `std`, float32."""
    pictures = jnp.asarray(pictures, jnp.float32) / _WHITE
    return (pictures - jnp.asarray(mean)) / jnp.asarray(std)
