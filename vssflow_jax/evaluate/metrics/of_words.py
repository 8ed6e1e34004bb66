"""What is measured of the words that are heard in a clip: functions of these, and of what is said.

Their results are fractions, as those of `metrics.of_clips` are.
"""

from collections.abc import Callable

from vssflow_jax.evaluate.metrics import wer
from vssflow_jax.evaluate.metrics.of_clips import Fraction
from vssflow_jax.evaluate.metrics.wer import Normalisation

OfWords = Callable[[str, str, Normalisation], Fraction]
"""Of the text that is said, the one that is heard, and the normalisation of both."""


def word_error_rate(said: str, heard: str, normalisation: Normalisation) -> Fraction:
    """Wrong words, and all words of the transcript."""
    errors = wer.word_errors(said, heard, normalisation)
    return float(errors.total), float(errors.said)


def plain_word_error_rate(said: str, heard: str, normalisation: Normalisation) -> Fraction:
    """The same without a network's habits: in lower case and without punctuation alone."""
    del normalisation
    return word_error_rate(said, heard, "lower_nopunct")


def word_error_rate_of_utterance(said: str, heard: str, normalisation: Normalisation) -> Fraction:
    """The share of wrong words, of which a mean is taken."""
    errors, words = word_error_rate(said, heard, normalisation)
    return errors / max(words, 1), 1.0


def character_error_rate(said: str, heard: str, normalisation: Normalisation) -> Fraction:
    """Wrong characters, and all characters of the transcript."""
    errors = wer.character_errors(said, heard, normalisation)
    return float(errors.total), float(errors.said)
