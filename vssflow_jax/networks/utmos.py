"""UTMOS's strong learner (Saeki et al. 2022, arXiv 2204.02152): how natural speech sounds.

wav2vec 2.0, a long short-term memory in both directions of time, and a score of each frame.
Weights: MIT, `utmos22_strong_step7459_v1.pt` of tarepan/SpeechMOS's release v1.0.0;
`vssflow_jax.networks.convert_utmos` imports them.

Letters: b utterances, n samples, t frames, d width, h width of one direction, four gates g.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vssflow_jax.models.layers import Linear, weight, zeros
from vssflow_jax.networks.wav2vec import Wav2Vec, Wav2VecConfig, frames_of

SAMPLING_RATE = 16_000
_GATES = 4
# From the scores of the network, about -1 to 1, to opinions of 1 to 5.
_SCALE, _OFFSET = 2.0, 3.0


@dataclasses.dataclass(frozen=True)
class UTMOSConfig(Wav2VecConfig):
    """Sizes of the network, those of its transformer too; the defaults are the published ones.

    Attributes:
      embedding: width of what stands for a domain, and of what stands for a judge.
      memory: h.
      hidden: width between the memory and the score.
    """

    embedding: int = 128
    memory: int = 512
    hidden: int = 2048


class UTMOS(Wav2Vec):
    """Utterances at 16 kHz in [-1, 1], [b, n], to their mean opinion scores, float32 [b]."""

    def __init__(self, cfg: UTMOSConfig, *, rngs: nnx.Rngs):
        super().__init__(cfg, rngs=rngs)
        d, e = cfg.width, cfg.embedding
        self.domain_d = weight(rngs, (e,), ("embed",), zeros)
        self.judge_d = weight(rngs, (e,), ("embed",), zeros)
        self.forward, self.backward = (Memory(d + 2 * e, cfg.memory, rngs=rngs) for _ in "ab")
        hidden = cfg.hidden
        self.inner = Linear((2 * cfg.memory, hidden), ("embed_in", "ffw"), rngs=rngs, bias=True)
        self.outer = Linear((hidden, 1), ("ffw", "embed"), rngs=rngs, bias=True)

    def __call__(
        self,
        waveforms: jax.Array,
        dtype: DTypeLike = jnp.float32,
        samples: jax.Array | None = None,
    ) -> jax.Array:
        """Computes in `dtype`, with the residual stream, the memory and statistics in float32.

        Args:
          waveforms: what goes in.
          dtype: of the branches.
          samples: int32 [b], how many samples each utterance has; the rest is padding, of which
            its score knows nothing. None: all are full.
        """
        x = self.features(waveforms, dtype, samples)
        known = jnp.concatenate([self.domain_d[...], self.judge_d[...]])
        x = jnp.concatenate([x, jnp.broadcast_to(known, (*x.shape[:2], len(known)))], axis=-1)
        t = x.shape[1]
        frames = jnp.full(len(x), t) if samples is None else frames_of(samples)
        own = jnp.arange(t) < frames[:, None]
        both = [self.forward(x, own), self.backward(x[:, ::-1], own[:, ::-1])[:, ::-1]]
        scores = self.outer(jax.nn.relu(self.inner(jnp.concatenate(both, axis=-1))))[..., 0]
        mean = jnp.sum(scores * own, axis=1) / jnp.sum(own, axis=1)
        return _SCALE * mean + _OFFSET

    def features(
        self,
        waveforms: jax.Array,
        dtype: DTypeLike = jnp.float32,
        samples: jax.Array | None = None,
    ) -> jax.Array:
        """What wav2vec makes of utterances, float32 [b, t, d]."""
        x = self.embed(waveforms, dtype, samples)
        return self.trunk(x, dtype, None if samples is None else frames_of(samples))


class Memory(nnx.Module):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) forward in time, in float32.

    [b, t, d] -> [b, t, h].
    """

    def __init__(self, width: int, memory: int, *, rngs: nnx.Rngs):
        gates = _GATES * memory
        self.read = Linear((width, gates), ("embed_in", "embed"), rngs=rngs, bias=True)
        self.recall = Linear((memory, gates), ("embed_in", "embed"), rngs=rngs)

    def __call__(self, x: jax.Array, own: jax.Array) -> jax.Array:
        """What it says at each frame; where a frame is not `own` [b, t], it forgets everything."""
        h = self.recall.w_io.shape[0]
        read = jnp.moveaxis(self.read(x), 1, 0)  # [t, b, g h]

        def step(
            state: tuple[jax.Array, jax.Array], frame: tuple[jax.Array, jax.Array]
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            said, kept = state
            gates, is_own = frame
            take, forget, new, say = jnp.split(gates + self.recall(said), _GATES, axis=-1)
            kept = jax.nn.sigmoid(forget) * kept + jax.nn.sigmoid(take) * jnp.tanh(new)
            said = jax.nn.sigmoid(say) * jnp.tanh(kept)
            said, kept = (jnp.where(is_own[:, None], part, 0) for part in (said, kept))
            return (said, kept), said

        nothing = jnp.zeros((len(x), h), jnp.float32)
        _, said = jax.lax.scan(step, (nothing, nothing), (read, jnp.moveaxis(own, 1, 0)))
        return jnp.moveaxis(said, 0, 1)
