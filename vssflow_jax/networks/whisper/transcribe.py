"""Sounds to texts, by Whisper.

Letters: b sounds, n samples.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

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


def transcribe(
    recogniser: Recogniser,
    waveforms: Sequence[NDArray[np.float32]],
    *,
    language: str = "en",
    beams: int = 5,
    length_penalty: float = 1.0,
    most_tokens: int = MOST_TOKENS,
    batch: int = 8,
    dtype: str = "float32",
) -> list[Transcript]:
    """What is said in sounds, without timestamps and at temperature 0.

    Args:
      recogniser: see `vssflow_jax.networks.whisper.published.load`.
      waveforms: [n] each, at 16 kHz, of full scale 1; 30 s at most.
      language: that is spoken.
      beams: texts that are followed at a time; 1 is greedy.
      length_penalty: of several texts that of the best log-probability / length ** this is taken.
      most_tokens: of a text; what is beyond is cut off.
      batch: sounds at a time.
      dtype: that the network computes in.

    Raises:
      UserError: a sound is too long, or the network does not know the language.
    """
    cfg, network, vocabulary = recogniser
    for place, waveform in enumerate(waveforms):
        if len(waveform) > SAMPLES:
            raise UserError(
                f"sound {place} lasts {len(waveform) / SAMPLING_RATE:.1f} s, and Whisper hears "
                f"{WINDOW_SEC} s at once; cut it"
            )
    prompt = jnp.asarray(vocabulary.prompt(language), jnp.int32)
    definition, weights = nnx.split(network)
    rules = (_mask(cfg, vocabulary.suppressed), _mask(cfg, vocabulary.suppressed_first))
    options = {
        "end": vocabulary.end,
        "beams": beams,
        "most": min(most_tokens, cfg.tokens - len(prompt)),
        "length_penalty": length_penalty,
        "dtype": dtype,
    }
    size = min(batch, len(waveforms))
    found = []
    for start in range(0, len(waveforms), batch):
        part = waveforms[start : start + batch]
        log_mels = np.zeros((size, FRAMES, cfg.bands), np.float32)
        log_mels[: len(part)] = [log_mel(waveform, cfg.bands) for waveform in part]
        made = jax.device_get(_recognise(definition, weights, log_mels, prompt, rules, **options))
        found += [_transcript(vocabulary, made, row) for row in range(len(part))]
    return found


@functools.partial(
    jax.jit,
    static_argnames=("definition", "end", "beams", "most", "length_penalty", "dtype"),
)
def _recognise(
    definition: nnx.GraphDef[Any],
    weights: nnx.State,
    log_mels: jax.Array,
    prompt: jax.Array,
    masks: tuple[jax.Array, jax.Array],
    *,
    end: int,
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
        prompt,
        Rules(end, *masks),
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
