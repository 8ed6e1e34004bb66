"""HTSAT (Chen et al. 2022, arXiv 2202.00874), CLAP's network of sound: a Swin Transformer.

Attention stays in windows (Liu et al. 2021, arXiv 2103.14030), which lie half a window further in
every second block; behind every stage but the last, four neighbours become one.

Letters: b sounds, t frames, m mel bands, y and x rows and columns of a map, v windows, n tokens of
a window, d width, h heads, r ways from one token of a window to another.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import LayerNorm, Linear, weight, zeros
from vssflow_jax.networks.layers import BatchNorm, Block, BlockConfig, Patches

WIDENING = 4  # of the feed-forward
_SHARPNESS = -0.75  # of cubic interpolation, as PyTorch has it


@dataclasses.dataclass(frozen=True)
class SoundConfig:
    """Sizes of the network of sound; the defaults are those of HTSAT-base.

    Attributes:
      width: d of the first stage; each of the others is twice as wide as the one before.
      depths: blocks of each stage.
      heads: of each stage.
      window: side of the windows, in tokens.
      patch: side of the patches, which are the tokens of the first stage.
      bands: m.
      side: of the square that a log-mel becomes, a multiple of m.
    """

    width: int = 128
    depths: tuple[int, ...] = (2, 2, 12, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window: int = 8
    patch: int = 4
    bands: int = 64
    side: int = 256

    @property
    def blocks(self) -> tuple[BlockConfig, ...]:
        """Of a block of each stage."""
        widths = (self.width * 2**stage for stage in range(len(self.depths)))
        return tuple(
            BlockConfig(d, heads, WIDENING * d) for d, heads in zip(widths, self.heads, strict=True)
        )


class Sound(nnx.Module):
    """Log-mels in decibels [b, t, m] to what is heard in them, float32 [b, d of the last stage]."""

    def __init__(self, cfg: SoundConfig, *, rngs: nnx.Rngs):
        assert cfg.side % cfg.bands == 0, f"{cfg.side} is no multiple of {cfg.bands} bands"
        self.side = cfg.side
        self.norm_bands = BatchNorm(cfg.bands, rngs=rngs)
        self.patches = Patches((cfg.patch, cfg.patch), 1, cfg.width, rngs=rngs)
        self.norm_patches = LayerNorm(cfg.width, rngs=rngs)
        tokens, last = cfg.side // cfg.patch, len(cfg.depths) - 1
        self.stages = nnx.List(
            Stage(block, depth, cfg.window, tokens >> stage, rngs=rngs, merge=stage < last)
            for stage, (block, depth) in enumerate(zip(cfg.blocks, cfg.depths, strict=True))
        )
        self.norm = LayerNorm(cfg.blocks[-1].width, rngs=rngs)

    def __call__(self, log_mels: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Computes in `dtype`, with a residual stream in float32; t is `side**2 / m` at most."""
        x = square(self.norm_bands(jnp.asarray(log_mels, jnp.float32)), self.side)
        x = self.norm_patches(self.patches(x[..., None].astype(dtype)), jnp.float32)
        for stage in self.stages:
            x = stage(x, dtype)
        return jnp.mean(self.norm(x, jnp.float32), axis=(1, 2))


class Stage(nnx.Module):
    """Blocks on maps of one size, then four neighbours as one, if there is a stage behind it.

    [b, y, x, d] -> the same shape, or [b, y / 2, x / 2, 2 d].
    """

    def __init__(
        self, cfg: BlockConfig, depth: int, window: int, side: int, *, rngs: nnx.Rngs, merge: bool
    ):
        shift = window // 2 if side > window else 0
        self.blocks = nnx.List(
            WindowBlock(cfg, window, shift * (number % 2), rngs=rngs) for number in range(depth)
        )
        self.merge = Merge(cfg.width, rngs=rngs) if merge else None

    def __call__(self, x: jax.Array, dtype: DTypeLike) -> jax.Array:
        for block in self.blocks:
            x = block.on_map(x, dtype)
        return x if self.merge is None else self.merge(x, dtype)


class WindowBlock(Block):
    """A block whose tokens see those of their window, each by its way there."""

    def __init__(self, cfg: BlockConfig, window: int, shift: int, *, rngs: nnx.Rngs):
        super().__init__(cfg, rngs=rngs)
        self.window, self.shift = window, shift
        ways = (2 * window - 1) ** 2
        self.ways_rh = weight(rngs, (ways, cfg.heads), ("tokens", "heads"), zeros)

    def on_map(self, x: jax.Array, dtype: DTypeLike) -> jax.Array:
        """float32 [b, y, x, d] -> the same shape; the branches compute in `dtype`."""
        shift, sides = self.shift, x.shape[1:3]
        windows = _windows(jnp.roll(x, (-shift, -shift), (1, 2)), self.window)  # [b, v, n, d]
        seen = jnp.tile(_seen(sides, self.window, shift), (len(x), 1, 1))[:, None]
        ways = jnp.moveaxis(self.ways_rh[...][_ways(self.window)], 2, 0)[None]  # [1, h, n, n]
        mix = functools.partial(jax.nn.dot_product_attention, bias=ways, mask=seen)
        y = self(windows.reshape(-1, *windows.shape[2:]), dtype, mix)
        return jnp.roll(_whole(y, sides, self.window), (shift, shift), (1, 2))


class Merge(nnx.Module):
    """Two by two neighbours as one token. [b, y, x, d] -> [b, y / 2, x / 2, 2 d]."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = LayerNorm(4 * width, rngs=rngs)
        self.reduce = Linear((4 * width, 2 * width), ("embed_in", "embed"), rngs=rngs)

    def __call__(self, x: jax.Array, dtype: DTypeLike) -> jax.Array:
        """float32 in and out; the map computes in `dtype`."""
        # Down the columns first.
        four = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduce(self.norm(jnp.concatenate(four, axis=-1), dtype)).astype(jnp.float32)


# ----------------------------------------------------------------------------------------- windows
def _windows(x: jax.Array, window: int) -> jax.Array:
    """[b, y, x, d] -> [b, v, n, d]."""
    b, rows, columns, d = x.shape
    x = x.reshape(b, rows // window, window, columns // window, window, d)
    return x.swapaxes(2, 3).reshape(b, -1, window**2, d)


def _whole(windows: jax.Array, sides: tuple[int, ...], window: int) -> jax.Array:
    """The map [b, y, x, d] that windows [b v, n, d] are of."""
    rows, columns = sides
    x = windows.reshape(-1, rows // window, columns // window, window, window, windows.shape[-1])
    return x.swapaxes(2, 3).reshape(-1, rows, columns, windows.shape[-1])


def _ways(window: int) -> np.ndarray:
    """Which way it is from the second token of a window to the first, int [n, n]."""
    places = np.stack(np.divmod(np.arange(window**2), window))
    down, right = places[:, :, None] - places[:, None, :] + window - 1
    return down * (2 * window - 1) + right


def _seen(sides: tuple[int, ...], window: int, shift: int) -> np.ndarray:
    """Which tokens of a window see which, bool [v, n, n], where a map was rolled by `shift`.

    What came around an edge of the map is not beside what it lies beside now.
    """
    around = [np.arange(side) >= side - shift for side in sides]
    part = 2 * around[0][:, None] + around[1]
    rows, columns = sides
    parts = part.reshape(rows // window, window, columns // window, window).swapaxes(1, 2)
    tokens = parts.reshape(-1, window**2)
    return tokens[:, :, None] == tokens[:, None, :]


# ------------------------------------------------------------------------------------- the square
def square(log_mels: jax.Array, side: int) -> jax.Array:
    """Log-mels as a square: stretched in time, cut in parts, which lie one below the other.

    float32 [b, t, m] -> [b, side, side]: the first m rows are the bands of the first part.
    """
    b, t, m = log_mels.shape
    parts = side // m
    assert t <= parts * side, f"{t} frames are more than the {parts * side} of the square"
    exact = jax.lax.Precision.HIGHEST
    x = jnp.einsum("tu,bum->btm", _stretch(t, parts * side), log_mels, precision=exact)
    return x.reshape(b, parts, side, m).swapaxes(2, 3).reshape(b, side, side)


@functools.cache
def _stretch(frames: int, wanted: int) -> np.ndarray:
    """Cubic interpolation between frames, first and last in place, float32 [wanted, frames]."""
    # In float32, as PyTorch computes places: a thousand frames on that shows.
    step = np.float32(frames - 1) / np.float32(wanted - 1)
    place = step * np.arange(wanted, dtype=np.float32)
    before = np.floor(place).astype(int)
    matrix = np.zeros((wanted, frames))
    for offset in range(-1, 3):
        neighbour = np.clip(before + offset, 0, frames - 1)
        np.add.at(matrix, (np.arange(wanted), neighbour), _cubic(place - before - offset))
    return matrix.astype(np.float32)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """What a neighbour counts for at a distance of up to two (Keys 1981)."""
    a, x = _SHARPNESS, np.abs(distance)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, far)
