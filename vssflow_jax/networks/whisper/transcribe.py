"""Sounds to texts, by Whisper.

Letters: n samples.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from vssflow_jax.networks.spread import Spread
from vssflow_jax.networks.whisper.mel import FRAMES, SAMPLES, SAMPLING_RATE, WINDOW_SEC, log_mel
from vssflow_jax.networks.whisper.network import Whisper, WhisperConfig
from vssflow_jax.networks.whisper.search import Found, Rules, search
from vssflow_jax.networks.whisper.vocabulary import Vocabulary
from vssflow_jax.utils.errors import UserError

MOST_TOKENS = 224
"""Of a text: half of what the decoder reads, as in the original."""


class Recogniser(NamedTuple):
    """A network with its sizes, and what its tokens stand for."""

    cfg: WhisperConfig
    network: Whisper
    vocabulary: Vocabulary


class Transcript(NamedTuple):
    """What is said in a sound.

    Attributes:
      text: as one would write it.
      tokens: that the text is made of.
      log_probability: mean of the tokens and of the end behind them.
    """

    text: str
    tokens: tuple[int, ...]
    log_probability: float


class Transcriber:
    """Transcribes sounds on all local devices, without timestamps and at temperature 0.

    Args:
      recogniser: see `vssflow_jax.networks.whisper.published.load`.
      language: that is spoken.
      beams: texts that are followed at a time; 1 is greedy.
      length_penalty: of several texts that of the best log-probability / length ** this is taken.
      most_tokens: of a text; what is beyond is cut off.
      rows: sounds that a device hears at a time.
      dtype: that the network computes in.

    Raises:
      UserError: the network does not know the language.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        *,
        language: str = "en",
        beams: int = 5,
        length_penalty: float = 1.0,
        most_tokens: int = MOST_TOKENS,
        rows: int = 8,
        dtype: str = "float32",
    ):
        self._cfg, network, self._vocabulary = recogniser
        prompt = np.array(self._vocabulary.prompt(language), np.int32)
        suppressed = self._vocabulary.suppressed, self._vocabulary.suppressed_first
        definition, weights = nnx.split(network)
        recognise = functools.partial(
            _recognise,
            definition,
            prompt=prompt,
            rules=Rules(self._vocabulary.end, *(_mask(self._cfg, x) for x in suppressed)),
            beams=beams,
            most=min(most_tokens, self._cfg.tokens - len(prompt)),
            length_penalty=length_penalty,
            dtype=dtype,
        )
        self._apply = Spread(recognise, weights, rows)

    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Transcript]:
        """What is said in sounds.

        Args:
          waveforms: [n] each, at 16 kHz, of full scale 1; 30 s at most.

        Raises:
          UserError: a sound is too long.
        """
        for place, waveform in enumerate(waveforms):
            if len(waveform) > SAMPLES:
                raise UserError(
                    f"sound {place} lasts {len(waveform) / SAMPLING_RATE:.1f} s, and Whisper hears "
                    f"{WINDOW_SEC} s at once; cut it"
                )
        log_mels = np.zeros((len(waveforms), FRAMES, self._cfg.bands), np.float32)
        for row, waveform in zip(log_mels, waveforms, strict=True):
            row[:] = log_mel(waveform, self._cfg.bands)
        made = self._apply(log_mels)
        return [_transcript(self._vocabulary, made, row) for row in range(len(waveforms))]


def _recognise(
    definition: nnx.GraphDef[Any],
    weights: nnx.State,
    log_mels: jax.Array,
    *,
    prompt: NDArray[np.int32],
    rules: Rules,
    beams: int,
    most: int,
    length_penalty: float,
    dtype: str,
) -> Found:
    network: Whisper = nnx.merge(definition, weights)
    heard = network.decoder.listen(network.encoder(log_mels, dtype), dtype)
    return search(
        network.decoder,
        heard,
        jnp.asarray(prompt),
        rules,
        beams=beams,
        most=most,
        length_penalty=length_penalty,
    )


def _mask(cfg: WhisperConfig, tokens: Sequence[int]) -> jax.Array:
    """bool [v], where these tokens are."""
    return jnp.zeros(cfg.vocabulary, bool).at[jnp.asarray(tokens, jnp.int32)].set(True)


def _transcript(vocabulary: Vocabulary, found: Found, row: int) -> Transcript:
    length = int(found.lengths[row])
    tokens = tuple(map(int, found.tokens[row, :length]))
    mean = float(found.log_probability[row]) / (length + 1)
    return Transcript(vocabulary.text(tokens), tokens, mean)
