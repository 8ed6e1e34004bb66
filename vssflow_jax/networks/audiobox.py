"""Audiobox-Aesthetics (Tjandra et al. 2025, arXiv 2502.05139): how listeners would rate a sound.

WavLM base (arXiv 2110.13900), and for each axis of the rating a mean of its layers and a
perceptron, as the package audiobox_aesthetics 0.0.4 has them. Weights: CC BY 4.0, the repository
`facebook/audiobox-aesthetics` of Hugging Face; `vssflow_jax.networks.convert_audiobox` imports
them.

Letters: w windows, n samples, t frames, d width, l layers, a axes.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from numpy.typing import NDArray

from vssflow_jax.models.layers import LayerNorm, Linear, ones, weight, zeros
from vssflow_jax.networks.layers import gelu
from vssflow_jax.networks.wav2vec import Wav2Vec, Wav2VecConfig

SAMPLING_RATE = 16_000
SAMPLES = 10 * SAMPLING_RATE  # of a window
AXES = ("CE", "CU", "PC", "PQ")
"""Content enjoyment, content usefulness, production complexity, production quality."""
_MIN_NORM = 1e-12


@dataclasses.dataclass(frozen=True)
class AudioboxConfig(Wav2VecConfig):
    """Sizes of the network, those of its transformer too; the defaults are the published ones.

    Attributes:
      hidden: layers of the perceptron of an axis, but for the last.
    """

    buckets: int = 320
    hidden: int = 4


class Audiobox(Wav2Vec):
    """Windows at 16 kHz in [-1, 1], [w, n], to their ratings, 1 to 10 or so, float32 [w, a]."""

    def __init__(self, cfg: AudioboxConfig, *, rngs: nnx.Rngs):
        super().__init__(cfg, rngs=rngs)
        self.axes = nnx.List(Axis(cfg, rngs=rngs) for _ in AXES)

    def __call__(
        self,
        waveforms: jax.Array,
        dtype: DTypeLike = jnp.float32,
        samples: jax.Array | None = None,
    ) -> jax.Array:
        """Computes in `dtype`, with the residual stream, the means and the axes in float32.

        Args:
          waveforms: what goes in.
          dtype: of the branches.
          samples: int32 [w], how many samples each window has, at least one; behind them are zeros.
            The first norm hears these too, nothing else does. None: all are full.
        """
        x = self.embed(waveforms, dtype)
        t = x.shape[1]
        frames = None if samples is None else own_frames(samples, waveforms.shape[1], t)
        own = jnp.arange(t) < (t if frames is None else frames[:, None])
        counts = jnp.broadcast_to(own, x.shape[:2])[..., None]
        means = self.trunk.trace(x, lambda x: jnp.mean(x, axis=1, where=counts), dtype, frames)
        return jnp.stack([axis(means) for axis in self.axes], axis=-1)


class Axis(nnx.Module):
    """One axis of the rating: means over time of all layers, [l + 1, w, d], to scores [w]."""

    def __init__(self, cfg: AudioboxConfig, *, rngs: nnx.Rngs):
        d, square = cfg.width, ((cfg.width, cfg.width), ("embed_in", "embed"))
        self.weights_l = weight(rngs, (cfg.layers + 1,), ("layers",), zeros)
        self.inner = nnx.List(Linear(*square, rngs=rngs, bias=True) for _ in range(cfg.hidden))
        self.norms = nnx.List(
            LayerNorm(d, rngs=rngs, epsilon=cfg.epsilon) for _ in range(cfg.hidden)
        )
        self.outer = Linear((d, 1), ("embed_in", "embed"), rngs=rngs, bias=True)
        # Of the ratings that it was trained on.
        self.mean = weight(rngs, (), (), zeros)
        self.deviation = weight(rngs, (), (), ones)

    def __call__(self, means: jax.Array) -> jax.Array:
        x = jnp.tensordot(jax.nn.softmax(self.weights_l[...]), means, axes=1)
        x = x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), _MIN_NORM)
        for inner, norm in zip(self.inner, self.norms, strict=True):
            x = gelu(norm(inner(x), jnp.float32))
        return self.outer(x)[..., 0] * self.deviation + self.mean


def own_frames(samples: jax.Array, n: int, t: int) -> jax.Array:
    """Frames of windows with so many samples of their own.

    A frame stands for n // t samples, and is the window's own where any of these is.

    Args:
      samples: of each window, int32 [w].
      n: of a window with the zeros behind it.
      t: frames of all of it.
    """
    return jnp.minimum(-(-samples // (n // t)), t)


def windows(waveform: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A waveform [n] as windows side by side, the last one with zeros behind it.

    Returns:
      [w, SAMPLES], and how many samples each window has, [w].
    """
    starts = np.arange(0, len(waveform), SAMPLES)
    rows = np.zeros((len(starts), SAMPLES), np.float32)
    rows.reshape(-1)[: len(waveform)] = waveform
    return rows, np.minimum(len(waveform) - starts, SAMPLES).astype(np.int32)


def mean_of_windows(
    scores: NDArray[np.floating], samples: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Scores of a sound [a], from those of its windows [w, a], which count by their samples [w]."""
    return np.average(scores.astype(np.float64), axis=0, weights=samples)
