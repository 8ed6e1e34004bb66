"""RawNet3 (Jung et al. 2022, arXiv 2203.08488): whose voice it is, stream `speaker`.

Learned band-pass filters of the waveform, three blocks of dilated convolutions, and statistics over
time that attention weights. Weights at Hugging Face: `model.pt` of `jungjee/RawNet3`, MIT, and
`40epoch.pth` of `espnet/voxcelebs12_rawnet3`, CC BY 4.0, by which VERSA compares voices;
`vssflow_jax.networks.convert_rawnet3` imports both.

Letters: b sounds, n samples, t frames, d channels.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import Linear, ones, weight, zeros
from vssflow_jax.networks.layers import BatchNorm, Conv, max_pool

SAMPLING_RATE = 16_000
SEGMENT = 48_000  # samples that the stream's encoder looks at together
SEGMENTS = 10  # of a recording, whose vectors it averages
DILATIONS = (2, 3, 4)  # of the three blocks
POOLS = (5, 3, 1)  # frames that become one after each
_TOGETHER = POOLS[1]  # frames that the first block has in one of the others
_WINDOW = 3
_NORM_EPSILON = 1e-4
LOG_OFFSET = 1e-6
_LEAST_VARIANCE, _LARGEST_VARIANCE = 1e-4, 1e4

Own = jax.Array | None
"""Which samples or frames [b, t, 1] are of a sound, and no padding behind it; None: all are."""


@dataclasses.dataclass(frozen=True)
class RawNet3Config:
    """Sizes of the network; the defaults are those of its authors' weights."""

    taps: int = 251
    stride: int = 10
    filters: int = 256
    channels: int = 1024
    scale: int = 8
    joined: int = 1536
    attention: int = 128
    embedding: int = 256


ESPNET = RawNet3Config(stride=16, embedding=192)
"""Sizes of ESPnet's weights."""

LEAST_SAMPLES = ESPNET.taps + ESPNET.stride * (2 * math.prod(POOLS) - 1)
"""Of which the last block makes two frames, so that they have a deviation."""


class RawNet3(nnx.Module):
    """Waveforms at 16 kHz in [-1, 1], [b, n], to float32 vectors [b, d], not normalised."""

    def __init__(self, cfg: RawNet3Config, *, rngs: nnx.Rngs):
        self.front_end = FrontEnd(cfg, rngs=rngs)
        c = cfg.channels
        self.blocks = nnx.List(
            Res2Block(before, c, cfg.scale, dilation, pool, rngs=rngs)
            for before, dilation, pool in zip((cfg.filters, c, c), DILATIONS, POOLS, strict=True)
        )
        self.join = pointwise(3 * c, cfg.joined, rngs=rngs)
        self.pool = AttentivePool(cfg.joined, cfg.attention, rngs=rngs)
        self.norm = BatchNorm(2 * cfg.joined, rngs=rngs)
        self.project = Linear(
            (2 * cfg.joined, cfg.embedding), ("embed_in", "embed"), rngs=rngs, bias=True
        )

    def __call__(
        self,
        waveforms: jax.Array,
        dtype: DTypeLike = jnp.float32,
        samples: jax.Array | None = None,
    ) -> jax.Array:
        """Computes in `dtype`, but for the filters and all statistics, which are float32.

        Args:
          waveforms: what goes in.
          dtype: of the blocks.
          samples: int32 [b], how many samples each sound has, `LEAST_SAMPLES` or more; the rest is
            padding, of which its vector knows nothing. None: all are full.
        """
        own = self.own(waveforms.shape[1], samples)
        joined = jax.nn.relu(self.maps(waveforms, dtype, own)[-1])
        return self.project(self.norm(self.pool(joined, own[-1])))

    def own(self, length: int, samples: jax.Array | None) -> Sequence[Own]:
        """Which samples are a sound's own, which frames before the blocks, and after each."""
        filters = self.front_end.filters
        thinned = ((len(filters.w_xio), filters.stride), *((pool, pool) for pool in POOLS))
        if samples is None:
            return (None,) * (1 + len(thinned))
        own = [(jnp.arange(length) < samples[:, None])[..., None]]
        for window, stride in thinned:  # A frame is own if the last that its window has is.
            own.append(own[-1][:, window - 1 :: stride])
        return own

    def maps(
        self,
        waveforms: jax.Array,
        dtype: DTypeLike = jnp.float32,
        own: Sequence[Own] = (None,) * (2 + len(POOLS)),
    ) -> tuple[jax.Array, ...]:
        """What the three blocks make of waveforms [b, n], and what joins them; each [b, t, d]."""
        samples, *frames = own
        first, second, third = self.blocks
        x1 = first(self.front_end(waveforms, samples, frames[0]).astype(dtype), *frames[:2])
        x2 = second(x1, *frames[1:3])
        x1_pooled = max_pool(x1, _TOGETHER, stride=_TOGETHER)
        x3 = third(x1_pooled + x2, *frames[2:])
        return x1, x2, x3, self.join(jnp.concatenate([x1_pooled, x2, x3], axis=-1))


class FrontEnd(nnx.Module):
    """Log-magnitudes of the outputs of filters, less their means. [b, n] -> float32 [b, t, d]."""

    def __init__(self, cfg: RawNet3Config, *, rngs: nnx.Rngs):
        self.emphasis_x = weight(rngs, (2,), ("window",), ones)
        self.gain = weight(rngs, (), (), ones)
        self.shift = weight(rngs, (), (), zeros)
        self.filters = Conv((cfg.taps,), 1, cfg.filters, rngs=rngs, stride=cfg.stride, bias=False)

    def __call__(self, waveforms: jax.Array, own: Own = None, own_frames: Own = None) -> jax.Array:
        log = jnp.log(jnp.abs(self.filtered(waveforms, own)) + LOG_OFFSET)
        return log - jnp.mean(log, axis=1, keepdims=True, where=own_frames)

    def filtered(self, waveforms: jax.Array, own: Own = None) -> jax.Array:
        """Outputs of the filters, float32 [b, t, d]."""
        x = jnp.asarray(waveforms, jnp.float32)
        before = jnp.pad(x, ((0, 0), (1, 0)), mode="reflect")[:, :-1]
        x = self.emphasis_x[0] * before + self.emphasis_x[1] * x
        x = x[..., None]
        centred = x - jnp.mean(x, axis=1, keepdims=True, where=own)
        variance = jnp.mean(centred**2, axis=1, keepdims=True, where=own)
        x = centred * jax.lax.rsqrt(variance + _NORM_EPSILON) * self.gain + self.shift
        # The logarithm shows errors of small outputs, so that none of its products may be coarse.
        with jax.default_matmul_precision("highest"):
            return self.filters(x)


class Res2Block(nnx.Module):
    """Convolutions of growing reach on parts of the channels; then pooling and a gate.

    [b, t, d] -> [b, t // pool, d'].
    """

    def __init__(
        self, before: int, width: int, scale: int, dilation: int, pool: int, *, rngs: nnx.Rngs
    ):
        part = width // scale
        self.frames_pooled = pool
        self.enter = pointwise(before, width, rngs=rngs)
        self.enter_norm = BatchNorm(width, rngs=rngs)
        self.convs = nnx.List(
            Conv((_WINDOW,), part, part, rngs=rngs, padding=dilation, dilation=dilation)
            for _ in range(scale - 1)
        )
        self.norms = nnx.List(BatchNorm(part, rngs=rngs) for _ in range(scale - 1))
        self.leave = pointwise(width, width, rngs=rngs)
        self.leave_norm = BatchNorm(width, rngs=rngs)
        self.shortcut = None if before == width else pointwise(before, width, rngs=rngs, bias=False)
        self.alpha_d = weight(rngs, (width,), ("norm",), ones)
        self.gate = Linear((width, width), ("channel", "embed"), rngs=rngs, bias=True)

    def __call__(self, x: jax.Array, own: Own = None, own_pooled: Own = None) -> jax.Array:
        *parts, last = jnp.split(
            self.enter_norm(jax.nn.relu(self.enter(x))), len(self.convs) + 1, axis=-1
        )
        made: list[jax.Array] = []
        for part, conv, norm in zip(parts, self.convs, self.norms, strict=True):
            before = part + made[-1] if made else part
            # Behind its end a sound has zeros for the windows that reach there.
            before = before if own is None else jnp.where(own, before, 0)
            made.append(norm(jax.nn.relu(conv(before))))
        y = jnp.concatenate([*made, last], axis=-1)
        y = self.leave_norm(jax.nn.relu(self.leave(y)))
        y = y + (x if self.shortcut is None else self.shortcut(x))
        y = max_pool(y, self.frames_pooled, stride=self.frames_pooled)
        mean = jnp.mean(y, axis=1, dtype=jnp.float32, where=own_pooled).astype(y.dtype)
        gate = jax.nn.sigmoid(self.gate(mean))
        return (y + self.alpha_d.astype(y.dtype)) * gate[:, None]


class AttentivePool(nnx.Module):
    """Mean and deviation over the frames that attention weights, by channel. [b, t, d] -> [b, 2 d].

    Attention knows the plain mean and deviation too.
    """

    def __init__(self, width: int, attention: int, *, rngs: nnx.Rngs):
        self.inner = pointwise(3 * width, attention, rngs=rngs)
        self.norm = BatchNorm(attention, rngs=rngs)
        self.outer = pointwise(attention, width, rngs=rngs)

    def __call__(self, x: jax.Array, own: Own = None) -> jax.Array:
        x32 = x.astype(jnp.float32)
        mean = jnp.mean(x32, axis=1, keepdims=True, where=own)
        deviation = _deviation(jnp.var(x32, axis=1, keepdims=True, ddof=1, where=own))
        plain = [jnp.broadcast_to(part, x.shape).astype(x.dtype) for part in (mean, deviation)]
        inner = self.norm(jax.nn.relu(self.inner(jnp.concatenate([x, *plain], axis=-1))))
        shares = jax.nn.softmax(self.outer(inner).astype(jnp.float32), axis=1, where=own)
        mean = jnp.sum(shares * x32, axis=1)
        deviation = _deviation(jnp.sum(shares * x32**2, axis=1) - mean**2)
        return jnp.concatenate([mean, deviation], axis=-1)


def pointwise(before: int, after: int, *, rngs: nnx.Rngs, bias: bool = True) -> Conv:
    """A convolution of each frame by itself. [b, t, d] -> [b, t, d']."""
    return Conv((1,), before, after, rngs=rngs, bias=bias)


def _deviation(variance: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.clip(variance, _LEAST_VARIANCE, _LARGEST_VARIANCE))


def segments(waveform: np.ndarray) -> np.ndarray:
    """Segments [10, 48000] of a waveform [n], evenly from its start to its end.

    What is shorter than one begins anew at its end. The mean of the vectors of all of them is the
    vector of the speaker.
    """
    if len(waveform) < SEGMENT:
        waveform = np.pad(waveform, (0, SEGMENT - len(waveform) + 1), mode="wrap")
    starts = np.linspace(0, len(waveform) - SEGMENT, SEGMENTS).astype(int)
    return np.stack([waveform[start : start + SEGMENT] for start in starts])
