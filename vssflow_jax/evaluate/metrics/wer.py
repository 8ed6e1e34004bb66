"""Word error rate, and a real recogniser of GRID sentences (both of the `demo` extra).

The recogniser is pocketsphinx with the English acoustic model that its package carries, told by a
grammar that it will hear GRID sentences only (`vssflow_jax.features.grid`). The error rates are of
any text.
"""

import functools
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.features import grid
from vssflow_jax.features.text import spoken_words
from vssflow_jax.utils.errors import UserError
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
    return _transform(normalisation)([_said(text, normalisation)])[0]


def word_errors(
    references: Sequence[str], hypotheses: Sequence[str], normalisation: Normalisation = "raw"
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Errors (substitutions + deletions + insertions) and reference words of each utterance.

    Args:
      references: n texts.
      hypotheses: n texts, as recognised.
      normalisation: normalisation of both.

    Returns:
      Two arrays [n].

    Raises:
      ValueError: the two lists differ in length.
      UserError: they are empty; jiwer is not installed.
    """
    jiwer = require("jiwer", _EXTRA)
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references for {len(hypotheses)} hypotheses")
    if not references:
        raise UserError("word error rate: there are no utterances")
    transform = _transform(normalisation)
    found = [
        jiwer.process_words(
            _said(reference, normalisation), _said(hypothesis, normalisation), transform, transform
        )
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    ]
    errors = [output.substitutions + output.deletions + output.insertions for output in found]
    return np.array(errors), np.array([len(output.references[0]) for output in found])


def utterance_wer(
    references: Sequence[str], hypotheses: Sequence[str], normalisation: Normalisation = "raw"
) -> list[float]:
    """Word error rate of each utterance: errors / reference words, or errors if there are none.

    May exceed 1. Arguments and errors as in `word_errors`.
    """
    errors, counts = word_errors(references, hypotheses, normalisation)
    return (errors / np.maximum(counts, 1)).tolist()


def mean_utterance_wer(
    references: Sequence[str], hypotheses: Sequence[str], normalisation: Normalisation = "raw"
) -> float:
    """Mean of the utterances' word error rates, as dubbing papers print it.

    Arguments and errors as in `word_errors`.
    """
    return float(np.mean(utterance_wer(references, hypotheses, normalisation)))


def corpus_wer(
    references: Sequence[str], hypotheses: Sequence[str], normalisation: Normalisation = "raw"
) -> float:
    """Word error rate over all utterances: errors of all divided by words of all references.

    Arguments and errors as in `word_errors`.
    """
    errors, counts = word_errors(references, hypotheses, normalisation)
    return float(errors.sum() / max(counts.sum(), 1))


def _said(text: str, normalisation: Normalisation) -> str:
    return " ".join(spoken_words(text)) if normalisation == "spoken" else text


def _transform(normalisation: Normalisation) -> Any:
    jiwer = require("jiwer", _EXTRA)
    if normalisation in ("raw", "spoken"):
        return jiwer.wer_default
    return jiwer.Compose([jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.wer_default])


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
