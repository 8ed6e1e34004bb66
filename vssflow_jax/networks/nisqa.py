"""NISQA 2.0 (Mittag et al. 2021, arXiv 2104.09494): how good speech sounds, and what is amiss.

Convolutions look at overlapping segments of a log-mel, self-attention relates the segments, and an
attention of its own weights them for each score. Weights: CC BY-NC-SA 4.0, `nisqa.tar` of
gabrielmittag/NISQA, code MIT; `vssflow_jax.networks.convert_nisqa` imports them.

Letters: b sounds, n segments, t frames, m mel bands, w frames of a segment, c channels, d width.
"""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import librosa
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from numpy.typing import NDArray

from vssflow_jax.models.layers import LayerNorm, Linear
from vssflow_jax.networks.layers import (
    BatchNorm,
    Block,
    BlockConfig,
    Conv,
    adaptive_max_pool,
    attend_to_all,
    attend_to_own,
    run_stack,
    stack,
)

SCORES = ("mos", "noi", "dis", "col", "loud")
"""Overall quality, noisiness, discontinuity, coloration, loudness; 1 is bad and 5 good in each."""
BANDS = 48
MOST_SEGMENTS = 1300
ROWS = 6  # of what the convolutions leave of a segment
_WIDTH, _HOP = 15, 4  # frames of a segment, and from one to the next
_FRAME_RATE = 100
_FFT = 4096
_HIGHEST_HERTZ = 20_000.0
_FLOOR, _RANGE_DB = 1e-4, 80.0
LOWEST_RATE, HIGHEST_RATE = _FRAME_RATE, _FFT * _FRAME_RATE // 2  # whose windows fit into the FFT
# Of the six convolutions: the padding, and the size of the map that the largest are kept in.
_PADDINGS = (*[(1, 1)] * 5, (1, 0))
_POOLED = ((24, 7), (12, 5), None, (ROWS, 3), None, None)


@dataclasses.dataclass(frozen=True)
class NISQAConfig:
    """Sizes of the network; the defaults are those of the published weights.

    Attributes:
      channels: of the first convolution, of the second, and of all others.
      width: d.
      layers: blocks of self-attention, each of one head.
      inner_width: of their feed-forward.
      hidden: width of the attention that weights segments.
    """

    channels: tuple[int, int, int] = (16, 32, 64)
    width: int = 64
    layers: int = 2
    inner_width: int = 64
    hidden: int = 128

    @property
    def block(self) -> BlockConfig:
        return BlockConfig(self.width, 1, self.inner_width, activation="relu", norm_first=False)


class NISQA(nnx.Module):
    """Log-mels [b, t, m] of speech to `SCORES`, float32 [b, 5]."""

    def __init__(self, cfg: NISQAConfig, *, rngs: nnx.Rngs):
        first, second, c = cfg.channels
        after = (first, second, c, c, c, c)
        self.convs = nnx.List(
            Conv((3, 3), i, o, rngs=rngs, padding=padding)
            for i, o, padding in zip((1, *after[:-1]), after, _PADDINGS, strict=True)
        )
        self.norms = nnx.List(BatchNorm(o, rngs=rngs) for o in after)
        self.project = Linear((c * ROWS, cfg.width), ("embed_in", "embed"), rngs=rngs, bias=True)
        self.norm = LayerNorm(cfg.width, rngs=rngs)
        self.blocks = stack(cfg.layers, lambda rngs: Block(cfg.block, rngs=rngs), rngs)
        self.pools = nnx.List(Pool(cfg.width, cfg.hidden, rngs=rngs) for _ in SCORES)

    def __call__(
        self,
        log_mels: jax.Array,
        dtype: DTypeLike = jnp.float32,
        segments: jax.Array | None = None,
    ) -> jax.Array:
        """Computes in `dtype`, with the residual stream and the scores in float32.

        Args:
          log_mels: what goes in; frames that fill no segment are left out.
          dtype: of the convolutions and branches.
          segments: int32 [b], how many segments each sound has; the rest is padding, of which its
            scores know nothing. None: all are full.
        """
        b, t, m = log_mels.shape
        n = segments_of(t)
        frames = _HOP * np.arange(n)[:, None] + np.arange(_WIDTH)
        pictures = jnp.asarray(log_mels, dtype)[:, frames].swapaxes(2, 3)  # [b, n, m, w]
        seen = self._look(pictures.reshape(b * n, m, _WIDTH, 1)).reshape(b, n, -1)
        x = self.norm(self.project(seen), jnp.float32)
        mix = attend_to_all if segments is None else attend_to_own(segments)
        x = run_stack(self.blocks, x, lambda block, x: block(x, dtype, mix))
        own = jnp.arange(n) < (n if segments is None else segments[:, None])
        own = jnp.broadcast_to(own, (b, n))
        return jnp.stack([pool(x, own) for pool in self.pools], axis=1)

    def _look(self, x: jax.Array) -> jax.Array:
        """Segments [b n, m, w, 1] -> [b n, c, rows]."""
        for conv, norm, sizes in zip(self.convs, self.norms, _POOLED, strict=True):
            x = jax.nn.relu(norm(conv(x)))
            x = x if sizes is None else adaptive_max_pool(x, sizes)
        return x[:, :, 0].swapaxes(1, 2)


class Pool(nnx.Module):
    """A score of the segments that attention weights. float32 [b, n, d] -> [b]."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        self.inner = Linear((width, hidden), ("embed", "ffw"), rngs=rngs, bias=True)
        self.outer = Linear((hidden, 1), ("ffw", "embed"), rngs=rngs, bias=True)
        self.score = Linear((width, 1), ("embed_in", "embed"), rngs=rngs, bias=True)

    def __call__(self, x: jax.Array, own: jax.Array) -> jax.Array:
        """Of the segments that are `own` [b, n]."""
        logits = self.outer(jax.nn.relu(self.inner(x)))[..., 0]
        shares = jax.nn.softmax(logits, axis=1, where=own)
        return self.score(jnp.einsum("bn,bnd->bd", shares, x))[:, 0]


# --------------------------------------------------------------------------------- what it hears
def segments_of(frames: int) -> int:
    """Whole segments in so many frames; none or less where there are too few for one."""
    return (frames - _WIDTH) // _HOP + 1


def frames_of(segments: int) -> int:
    """Frames that so many segments span."""
    return _HOP * (segments - 1) + _WIDTH


def least_samples(rate: int, segments: int = 1) -> int:
    """Samples, `rate` a second, that hold so many segments."""
    return (frames_of(segments) - 1) * (rate // _FRAME_RATE)


def log_mel(waveform: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """A log-mel in decibels, at most 80 below its loudest, float32 [t, m] of whole segments.

    It is made at the rate that the sound has, as the original does: filters above half of it are
    empty. What no segment sees is left out.

    Args:
      waveform: [n], in [-1, 1], of `least_samples` or more.
      rate: samples a second, from `LOWEST_RATE` to `HIGHEST_RATE`.
    """
    with warnings.catch_warnings():
        # Of filters that are empty, and of frames that are longer than the sound.
        warnings.simplefilter("ignore", UserWarning)
        magnitudes = librosa.feature.melspectrogram(
            y=waveform,
            sr=rate,
            n_fft=_FFT,
            hop_length=rate // _FRAME_RATE,
            win_length=2 * rate // _FRAME_RATE,
            pad_mode="reflect",
            power=1.0,
            n_mels=BANDS,
            fmax=_HIGHEST_HERTZ,
        )
    decibels = librosa.amplitude_to_db(magnitudes, ref=1.0, amin=_FLOOR, top_db=_RANGE_DB).T
    return decibels[: frames_of(segments_of(len(decibels)))]
