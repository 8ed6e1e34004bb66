"""The transformer that wav2vec 2.0 (arXiv 2006.11477), HuBERT and their kin have in common.

Letters: b examples, t frames, d width.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import LayerNorm
from vssflow_jax.networks.layers import (
    Block,
    BlockConfig,
    Conv,
    attend_to_all,
    attend_to_own,
    gelu,
    run_stack,
    stack,
)


@dataclasses.dataclass(frozen=True)
class TrunkConfig:
    """Sizes of the transformer; the defaults are those of the large networks.

    Attributes:
      norm_first: as in `BlockConfig`; the base networks norm last.
    """

    width: int = 1024
    layers: int = 24
    heads: int = 16
    inner_width: int = 4096
    positional_window: int = 128
    positional_groups: int = 16
    epsilon: float = 1e-5
    norm_first: bool = True

    @property
    def block(self) -> BlockConfig:
        return BlockConfig(
            self.width,
            self.heads,
            self.inner_width,
            epsilon=self.epsilon,
            norm_first=self.norm_first,
        )


class Trunk(nnx.Module):
    """Positions by a convolution, then blocks. float32 [b, t, d] -> [b, t, d]."""

    def __init__(self, cfg: TrunkConfig, *, rngs: nnx.Rngs):
        d, window = cfg.width, cfg.positional_window
        self.norm_first = cfg.norm_first
        self.positions = Conv(
            (window,), d, d, rngs=rngs, padding=window // 2, groups=cfg.positional_groups
        )
        self.norm = LayerNorm(d, rngs=rngs, epsilon=cfg.epsilon)
        self.blocks = stack(cfg.layers, lambda rngs: Block(cfg.block, rngs=rngs), rngs)

    def __call__(
        self, x: jax.Array, dtype: DTypeLike = jnp.float32, frames: jax.Array | None = None
    ) -> jax.Array:
        """Computes in `dtype`, with a residual stream in float32.

        Args:
          x: what goes in.
          dtype: of the branches.
          frames: int32 [b], how many frames each example has; the rest is padding, of which those
            frames know nothing. None: all are full.
        """
        mix = attend_to_all
        if frames is not None:
            x = without_padding(x, frames)
            mix = attend_to_own(frames)
        # An even window makes one frame too many.
        x = x + gelu(self.positions(x.astype(dtype)))[:, : x.shape[1]]
        x = x if self.norm_first else self.norm(x, jnp.float32)
        x = run_stack(self.blocks, x, lambda block, x: block(x, dtype, mix))
        return self.norm(x, jnp.float32) if self.norm_first else x


def without_padding(x: jax.Array, frames: jax.Array) -> jax.Array:
    """[b, t, ...] with zeros behind the first `frames` [b] of each example."""
    own = jnp.arange(x.shape[1]) < frames[:, None]
    return jnp.where(own.reshape(*own.shape, *(1,) * (x.ndim - 2)), x, 0)
