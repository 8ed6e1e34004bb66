"""Errors of words, and a real recogniser of GRID sentences (of the `demo` extra).

The recogniser is pocketsphinx with the English acoustic model that its package carries, told by a
grammar that it will hear GRID sentences only (`vssflow_jax.features.grid`). The error rates are of
any text.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from vssflow_jax.features import grid
from vssflow_jax.features.text import spoken_words
from vssflow_jax.utils.optional import require

Normalisation = Literal["raw", "lower_nopunct", "spoken", "whisper"]
"""What is done to a text before it is split at spaces.

All make one space of several white-space characters and strip the ends. `lower_nopunct` lowers
the case and deletes punctuation before ("well-known" becomes "wellknown"). `spoken` compares
what is said: numbers, money, abbreviations and addresses in words, as phonemes are made of them
(`vssflow_jax.features.text`). `whisper` is what papers that recognise by Whisper compare: its
normaliser of English (Radford et al. 2022, appendix C, by the package whisper-normalizer), which
takes away hesitations and what stands in brackets, writes numbers as digits, spells as Americans
do and writes contractions out. `raw` and `lower_nopunct` leave numbers as they are written.
"""

SAMPLING_RATE: Final = 16_000
"""That the acoustic model was trained on, in Hz."""

_EXTRA: Final = "demo"
_WORDS_EXTRA: Final = "metrics"
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
      UserError: a package is not installed.
    """
    jiwer = require("jiwer", _WORDS_EXTRA)
    if normalisation == "spoken":
        text = " ".join(spoken_words(text))
    if normalisation == "lower_nopunct":
        text = jiwer.Compose([jiwer.ToLowerCase(), jiwer.RemovePunctuation()])(text)
    if normalisation == "whisper":
        text = _english()(text)
    return jiwer.wer_default(text)[0]


class Errors(NamedTuple):
    """How a text that was heard differs from the one that was said.

    Attributes:
      substitutions, deletions, insertions: words, or characters, of each kind.
      said: how many there are in the text that was said.
    """

    substitutions: int
    deletions: int
    insertions: int
    said: int

    @property
    def total(self) -> int:
        """Errors of all kinds."""
        return self.substitutions + self.deletions + self.insertions


def word_errors(reference: str, hypothesis: str, normalisation: Normalisation = "raw") -> Errors:
    """Errors of words.

    Args:
      reference: what is said.
      hypothesis: what is recognised.
      normalisation: normalisation of both.

    Raises:
      UserError: a package is not installed.
    """
    found, said = _aligned(reference, hypothesis, normalisation)
    return Errors(found.substitutions, found.deletions, found.insertions, said)


def character_errors(
    reference: str, hypothesis: str, normalisation: Normalisation = "raw"
) -> Errors:
    """Errors of characters, of which a space between words is one; see `word_errors`."""
    jiwer = require("jiwer", _WORDS_EXTRA)
    texts = [" ".join(words(text, normalisation)) for text in (reference, hypothesis)]
    found = jiwer.process_characters(*texts)
    return Errors(found.substitutions, found.deletions, found.insertions, len(texts[0]))


def confusions(
    reference: str, hypothesis: str, normalisation: Normalisation = "raw"
) -> list[tuple[str, str]]:
    """What was heard in place of what was said, where they differ; see `word_errors`.

    Either is "" where a word has been left out or added.
    """
    found, _ = _aligned(reference, hypothesis, normalisation)
    (said,), (heard,) = found.references, found.hypotheses
    pairs: list[tuple[str, str]] = []
    for chunk in found.alignments[0]:
        if chunk.type != "equal":
            ours = said[chunk.ref_start_idx : chunk.ref_end_idx]
            theirs = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
            pairs += itertools.zip_longest(ours, theirs, fillvalue="")
    return pairs


def _aligned(reference: str, hypothesis: str, normalisation: Normalisation) -> tuple[Any, int]:
    """What jiwer says of the words of both, and how many were said."""
    jiwer = require("jiwer", _WORDS_EXTRA)
    said, heard = (words(text, normalisation) for text in (reference, hypothesis))
    return jiwer.process_words(" ".join(said), " ".join(heard)), len(said)


@functools.cache
def _english() -> Callable[[str], str]:
    normaliser: Callable[[str], str] = require(
        "whisper_normalizer.english", _WORDS_EXTRA
    ).EnglishTextNormalizer()
    return normaliser


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
