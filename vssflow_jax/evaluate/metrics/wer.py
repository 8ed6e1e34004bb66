"""Word error rate, and a real recogniser of GRID sentences (both of the `demo` extra).

The recogniser is pocketsphinx with the English acoustic model that its package carries, told by a
grammar that it will hear GRID sentences only (`vssflow_jax.features.grid`). The error rates are of
any text.
"""

import functools
from typing import Any, Final, Literal

import numpy as np

from vssflow_jax.features import grid
from vssflow_jax.features.text import spoken_words
from vssflow_jax.utils.optional import require

Normalisation = Literal["raw", "lower_nopunct", "spoken"]
"""What is done to a text before it is split at spaces.

Both make one space of several white-space characters and strip the ends. `lower_nopunct` lowers
the case and deletes punctuation before ("well-known" becomes "wellknown"). `spoken` compares
what is said: numbers, money, abbreviations and addresses in words, as phonemes are made of them
(`vssflow_jax.features.text`); the others do not spell out digits.
"""

SAMPLING_RATE: Final = 16_000
"""That the acoustic model was trained on, in Hz."""

_EXTRA: Final = "demo"
_INT16_MAX: Final = 32_767
_MIN_SAMPLES: Final = SAMPLING_RATE // 20
"""The recogniser fails on less than its analysis window; less than 50 ms holds no word anyway."""
_NOISE_FLOOR: Final = 1e-3
"""Standard deviation of the white noise that is added before recognition.

The acoustic model comes from recordings, which are never quite silent. In the digital silence
around synthetic speech its features are far from anything it was trained on; this faint noise
brings word error rates of 4-14 % down to 2-7 %.
"""


def transcribe(waveform: np.ndarray) -> str:
    """Reads a sound as a GRID sentence, whatever was read before.

    Args:
      waveform: float [n] at `SAMPLING_RATE`, full scale 1.

    Returns:
      Its words; where no sentence is found, those that are, or "".

    Raises:
      UserError: pocketsphinx is not installed.
    """
    return _decode(_decoder(), waveform)


def words(text: str, normalisation: Normalisation = "raw") -> list[str]:
    """The words of a text.

    Raises:
      UserError: jiwer is not installed.
    """
    jiwer = require("jiwer", _EXTRA)
    if normalisation == "spoken":
        text = " ".join(spoken_words(text))
    if normalisation == "lower_nopunct":
        text = jiwer.Compose([jiwer.ToLowerCase(), jiwer.RemovePunctuation()])(text)
    return jiwer.wer_default(text)[0]


def word_errors(
    reference: str, hypothesis: str, normalisation: Normalisation = "raw"
) -> tuple[int, int]:
    """Errors (substitutions + deletions + insertions) and words of the reference.

    Args:
      reference: what is said.
      hypothesis: what is recognised.
      normalisation: normalisation of both.

    Raises:
      UserError: jiwer is not installed.
    """
    jiwer = require("jiwer", _EXTRA)
    said, heard = (words(text, normalisation) for text in (reference, hypothesis))
    found = jiwer.process_words(" ".join(said), " ".join(heard))
    return found.substitutions + found.deletions + found.insertions, len(said)


@functools.cache
def _decoder() -> Any:
    pocketsphinx = require("pocketsphinx", _EXTRA)
    decoder = pocketsphinx.Decoder(
        samprate=SAMPLING_RATE,
        lm=None,
        # The cepstral mean of the utterance itself; "live" would carry it on to the next one.
        cmn="batch",
        loglevel="FATAL",
    )
    decoder.add_jsgf_string("grid", grid.jsgf())
    decoder.activate_search("grid")
    return decoder


def _decode(decoder: Any, waveform: np.ndarray) -> str:
    if len(waveform) < _MIN_SAMPLES:
        return ""
    noise = np.random.default_rng(0).standard_normal(len(waveform))
    samples = np.clip(waveform + _NOISE_FLOOR * noise, -1.0, 1.0) * _INT16_MAX
    decoder.start_stream()  # forget the noise level of the utterance before
    decoder.start_utt()
    decoder.process_raw(samples.astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis is not None else ""
