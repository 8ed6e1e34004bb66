"""RawNet3 (Jung et al. 2022, arXiv 2203.08488): whose voice it is, stream `speaker`.

Learned band-pass filters of the waveform, three blocks of dilated convolutions, and statistics over
time that attention weights. Weights: MIT, `model.pt` of `jungjee/RawNet3` at Hugging Face;
`vssflow_jax.networks.convert_rawnet3` imports them.

Letters: b segments, n samples, t frames, d channels.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import Linear, ones, weight, zeros
from vssflow_jax.networks.layers import BatchNorm, Conv, max_pool

SAMPLING_RATE = 16_000
SEGMENT = 48_000  # samples that it looks at
SEGMENTS = 10  # of a recording, whose vectors are averaged
DILATIONS = (2, 3, 4)  # of the three blocks
POOLS = (5, 3, 1)  # frames that become one after each
_TOGETHER = POOLS[1]  # frames that the first block has in one of the others
_WINDOW = 3
_NORM_EPSILON = 1e-4
_LOG_OFFSET = 1e-6
_LEAST_VARIANCE, _LARGEST_VARIANCE = 1e-4, 1e4


@dataclasses.dataclass(frozen=True)
class RawNet3Config:
    """Sizes of the network; the defaults are those of the published weights."""

    taps: int = 251
    stride: int = 10
    filters: int = 256
    channels: int = 1024
    scale: int = 8
    joined: int = 1536
    attention: int = 128
    embedding: int = 256


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

    def __call__(self, waveforms: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Computes in `dtype`, but for the filters and all statistics, which are float32."""
        joined = jax.nn.relu(self.maps(waveforms, dtype)[-1])
        return self.project(self.norm(self.pool(joined)))

    def maps(self, waveforms: jax.Array, dtype: DTypeLike = jnp.float32) -> tuple[jax.Array, ...]:
        """What the three blocks make of waveforms [b, n], and what joins them; each [b, t, d]."""
        first, second, third = self.blocks
        x1 = first(self.front_end(waveforms).astype(dtype))
        x2 = second(x1)
        x1_pooled = max_pool(x1, _TOGETHER, stride=_TOGETHER)
        x3 = third(x1_pooled + x2)
        return x1, x2, x3, self.join(jnp.concatenate([x1_pooled, x2, x3], axis=-1))


class FrontEnd(nnx.Module):
    """Log-magnitudes of the outputs of filters, less their means. [b, n] -> float32 [b, t, d]."""

    def __init__(self, cfg: RawNet3Config, *, rngs: nnx.Rngs):
        self.emphasis_x = weight(rngs, (2,), ("window",), ones)
        self.gain = weight(rngs, (), (), ones)
        self.shift = weight(rngs, (), (), zeros)
        self.filters = Conv((cfg.taps,), 1, cfg.filters, rngs=rngs, stride=cfg.stride, bias=False)

    def __call__(self, waveforms: jax.Array) -> jax.Array:
        log = jnp.log(jnp.abs(self.filtered(waveforms)) + _LOG_OFFSET)
        return log - jnp.mean(log, axis=1, keepdims=True)

    def filtered(self, waveforms: jax.Array) -> jax.Array:
        """Outputs of the filters, float32 [b, t, d]."""
        x = jnp.asarray(waveforms, jnp.float32)
        before = jnp.pad(x, ((0, 0), (1, 0)), mode="reflect")[:, :-1]
        x = self.emphasis_x[0] * before + self.emphasis_x[1] * x
        centred = x - jnp.mean(x, axis=1, keepdims=True)
        variance = jnp.mean(centred**2, axis=1, keepdims=True)
        x = centred * jax.lax.rsqrt(variance + _NORM_EPSILON) * self.gain + self.shift
        # The logarithm shows errors of small outputs, so that none of its products may be coarse.
        with jax.default_matmul_precision("highest"):
            return self.filters(x[..., None])


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

    def __call__(self, x: jax.Array) -> jax.Array:
        *parts, last = jnp.split(
            self.enter_norm(jax.nn.relu(self.enter(x))), len(self.convs) + 1, axis=-1
        )
        made: list[jax.Array] = []
        for part, conv, norm in zip(parts, self.convs, self.norms, strict=True):
            made.append(norm(jax.nn.relu(conv(part + made[-1] if made else part))))
        y = jnp.concatenate([*made, last], axis=-1)
        y = self.leave_norm(jax.nn.relu(self.leave(y)))
        y = y + (x if self.shortcut is None else self.shortcut(x))
        y = max_pool(y, self.frames_pooled, stride=self.frames_pooled)
        mean = jnp.mean(y, axis=1, dtype=jnp.float32).astype(y.dtype)
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

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        mean = jnp.mean(x32, axis=1, keepdims=True)
        deviation = _deviation(jnp.var(x32, axis=1, keepdims=True, ddof=1))
        plain = [jnp.broadcast_to(part, x.shape).astype(x.dtype) for part in (mean, deviation)]
        inner = self.norm(jax.nn.relu(self.inner(jnp.concatenate([x, *plain], axis=-1))))
        shares = jax.nn.softmax(self.outer(inner).astype(jnp.float32), axis=1)
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
