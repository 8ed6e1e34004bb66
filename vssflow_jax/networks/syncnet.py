"""SyncNet (Chung and Zisserman 2016, "Out of time"): do lips and sound belong together?

Two networks of convolutions, one of five pictures of a face and one of the 0.2 s of sound beside
them, whose features lie near each other where both are in time. Weights: `syncnet_v2.model` of VGG,
Oxford, code MIT; `vssflow_jax.networks.convert_syncnet` imports them.

Letters: b windows, n windows of a video, d features.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import Linear
from vssflow_jax.networks.layers import BatchNorm, Conv, max_pool

PICTURES = 5  # of a window, at 25 a second
SHIFTS = 15  # windows by which the sound is moved either way
_SAMPLES_EACH = 640  # that a picture lasts
_MFCC_EACH = 4  # rows of cepstra that it lasts
_MFCC_ROWS = PICTURES * _MFCC_EACH
_OFFSET = 1e-6  # as torch.pairwise_distance adds to each difference


@dataclasses.dataclass(frozen=True)
class SyncNetConfig:
    """Sizes of the networks; the defaults are those of the published weights.

    Attributes:
      sound: channels of the convolutions of sound.
      picture: channels of those of pictures.
      hidden: width between the convolutions and the features.
      features: d.
      image_size: side of a picture.
    """

    sound: tuple[int, ...] = (64, 192, 384, 256, 256, 512)
    picture: tuple[int, ...] = (96, 256, 256, 256, 256, 512)
    hidden: int = 512
    features: int = 1024
    image_size: int = 224


class SyncNet(nnx.Module):
    """`picture` of faces and `sound` of what is heard meanwhile give vectors to compare."""

    def __init__(self, cfg: SyncNetConfig, *, rngs: nnx.Rngs):
        one, two, *same, last = cfg.sound
        self.of_sound = nnx.List(
            [
                Stage((3, 3), 1, one, rngs=rngs, padding=1),
                Stage((3, 3), one, two, rngs=rngs, padding=1, pool=((1, 2), 0)),
                *_chain(two, same, rngs=rngs, pool=((2, 2), 0)),
                Stage((5, 4), same[-1], last, rngs=rngs),
            ]
        )
        self.sound_head = Head(last, cfg, rngs=rngs)
        one, two, *same, last = cfg.picture
        side = _side_before_last(cfg.image_size)
        self.of_picture = nnx.List(
            [
                Stage((7, 7), 3 * PICTURES, one, rngs=rngs, stride=2, pool=((2, 2), 0)),
                Stage((5, 5), one, two, rngs=rngs, stride=2, padding=1, pool=((2, 2), 1)),
                *_chain(two, same, rngs=rngs, pool=((2, 2), 0)),
                Stage((side, side), same[-1], last, rngs=rngs),
            ]
        )
        self.picture_head = Head(last, cfg, rngs=rngs)

    def sound(self, mfcc: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Cepstra [b, 13, 20] of `vssflow_jax.audio.mfcc` to float32 [b, d]."""
        x = jnp.asarray(mfcc, dtype)[..., None]
        for stage in self.of_sound:
            x = stage(x)
        return self.sound_head(x[:, 0, 0])

    def picture(self, faces: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Faces [b, 5, h, w, 3], blue first and from 0 to 255, to float32 [b, d]."""
        # The first convolution spans all five: they are channels of one picture.
        x = jnp.moveaxis(jnp.asarray(faces, dtype), 1, 3)
        x = x.reshape(*x.shape[:3], -1)
        for stage in self.of_picture:
            x = stage(x)
        return self.picture_head(x[:, 0, 0])


class Stage(nnx.Module):
    """A convolution, its norm, ReLU, and the largest of 3 x 3 if `pool` says its strides.

    [b, h, w, c] -> [b, h', w', c'].
    """

    def __init__(
        self,
        window: tuple[int, int],
        before: int,
        after: int,
        *,
        rngs: nnx.Rngs,
        stride: int = 1,
        padding: int = 0,
        pool: tuple[tuple[int, int], int] | None = None,
    ):
        self.pool = pool
        self.conv = Conv(window, before, after, rngs=rngs, stride=stride, padding=padding)
        self.norm = BatchNorm(after, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.norm(self.conv(x)))
        if self.pool is None:
            return x
        strides, padding = self.pool
        return max_pool(x, 3, stride=strides, padding=padding)


class Head(nnx.Module):
    """What the convolutions found, as a vector to compare. [b, c] -> float32 [b, d]."""

    def __init__(self, channels: int, cfg: SyncNetConfig, *, rngs: nnx.Rngs):
        self.inner = Linear((channels, cfg.hidden), ("channel", "ffw"), rngs=rngs, bias=True)
        self.norm = BatchNorm(cfg.hidden, rngs=rngs)
        self.outer = Linear((cfg.hidden, cfg.features), ("ffw", "embed"), rngs=rngs, bias=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(jax.nn.relu(self.norm(self.inner(x)))).astype(jnp.float32)


def _chain(
    before: int, widths: Sequence[int], *, rngs: nnx.Rngs, pool: tuple[tuple[int, int], int]
) -> list[Stage]:
    """Convolutions of 3 x 3, the last of which is pooled."""
    *others, last = widths
    stages = []
    for after in others:
        stages.append(Stage((3, 3), before, after, rngs=rngs, padding=1))
        before = after
    return [*stages, Stage((3, 3), before, last, rngs=rngs, padding=1, pool=pool)]


def _side_before_last(side: int) -> int:
    """Side of the maps that the last convolution of pictures sees whole."""
    for window, stride, padding in ((7, 2, 0), (3, 2, 0), (5, 2, 1), (3, 2, 1), (3, 2, 0)):
        side = (side + 2 * padding - window) // stride + 1
    return side


# ---------------------------------------------------------------------------------- what it says
class Synchrony(NamedTuple):
    """How lips and sound of a video fit.

    Attributes:
      distance: LSE-D, of the shift at which they fit best; less is better.
      confidence: LSE-C, by how much the median of all shifts lies above it; more is better.
      offset: by how many pictures the sound is early there; below 0 it is late.
      distances: of each shift, float32 [31].
    """

    distance: float
    confidence: float
    offset: int
    distances: np.ndarray


def count_windows(pictures: int, samples: int) -> int:
    """Windows of a video of so many pictures and samples at 16 kHz; the last one is left out."""
    return max(min(pictures, samples // _SAMPLES_EACH) - PICTURES, 0)


def picture_windows(faces: np.ndarray, count: int) -> np.ndarray:
    """The pictures [n + 5, h, w, 3] in each of the first windows, a view [n, 5, h, w, 3]."""
    windows = np.lib.stride_tricks.sliding_window_view(faces, PICTURES, axis=0)
    return np.moveaxis(windows[:count], -1, 1)


def sound_windows(cepstra: np.ndarray, count: int) -> np.ndarray:
    """The cepstra [rows, 13] beside each of the first windows, [n, 13, 20]."""
    starts = _MFCC_EACH * np.arange(count)
    return cepstra[starts[:, None] + np.arange(_MFCC_ROWS)].swapaxes(1, 2)


def synchrony(faces: np.ndarray, sounds: np.ndarray) -> Synchrony:
    """How features of faces [n, d] and of sounds [n, d] fit, the latter moved either way."""
    padded = np.pad(sounds, ((SHIFTS, SHIFTS), (0, 0)))
    moved = np.stack([padded[k : k + len(faces)] for k in range(2 * SHIFTS + 1)])
    apart = np.linalg.norm(faces - moved + _OFFSET, axis=2)  # [shifts, n]
    distances = apart.mean(axis=1)
    best = int(distances.argmin())
    distance = float(distances[best])
    return Synchrony(distance, float(np.median(distances)) - distance, SHIFTS - best, distances)
