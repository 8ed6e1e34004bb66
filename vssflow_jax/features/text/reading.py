"""A sentence read: its phonemes, and what became of its words."""

import re
from typing import NamedTuple

from vssflow_jax.features import grid
from vssflow_jax.features.phonemes import BLANK
from vssflow_jax.features.text.normalise import check_script, normalise
from vssflow_jax.features.text.pronounce import is_known, pronounce
from vssflow_jax.utils.errors import UserError

_CHUNKS = re.compile(r"[a-z.']*[a-z][a-z.']*|\.+|[,?!']", re.IGNORECASE)
_INITIALS = re.compile(r"(?:[a-z]\.)+[a-z](?:\.?'?s)?", re.IGNORECASE)


class Reading(NamedTuple):
    """How a text is read.

    Attributes:
      symbols: ARPAbet, `<blank>` at both ends and for each pause.
      words: what is said, lower case.
      left_out: parts of the text that are not said.
      spelled: words said letter by letter.
      guessed: words of no dictionary, said as a network thinks.
    """

    symbols: list[str]
    words: list[str]
    left_out: list[str]
    spelled: list[str]
    guessed: list[str]

    def remarks(self) -> list[str]:
        """What the writer of the text may not expect, a line each."""
        named = {
            "left out": self.left_out,
            "spelled letter by letter": self.spelled,
            "in no dictionary, pronounced as guessed": self.guessed,
        }
        return [
            f"{what}: {', '.join(dict.fromkeys(parts))}" for what, parts in named.items() if parts
        ]


def read(text: str) -> Reading:
    """Reads an English text aloud, so to say.

    Raises:
      UserError: nothing in it can be said; it is in another script; a package of the `demo` extra
        is not installed.
    """
    check_script(text)
    spoken = normalise(text)
    tokens = _tokens(spoken.text)
    words = [token for token in tokens if _is_word(token)]
    if not words:
        raise UserError(f"transcript: nothing in '{text.strip()}' can be said")
    if grid.is_sentence([word.lower() for word in words]):
        # Of the corpus, where "a" is a letter.
        tokens = [f"{token}." if len(token) == 1 and _is_word(token) else token for token in tokens]
    said = pronounce(tokens, acronyms=not text.isupper())
    symbols = [
        symbol
        for token, word in zip(tokens, said, strict=True)
        for symbol in (word.symbols if _is_word(token) else [BLANK])
    ]
    return Reading(
        symbols=[BLANK, *symbols, BLANK],
        words=[word.lower() for word in words],
        left_out=list(spoken.left_out),
        spelled=[token for token, word in zip(tokens, said, strict=True) if word.how == "spelled"],
        guessed=[token for token, word in zip(tokens, said, strict=True) if word.how == "guessed"],
    )


def spoken_words(text: str) -> list[str]:
    """The words that are said of a text, lower case, without those of other scripts.

    Raises:
      UserError: a package of the `demo` extra is not installed.
    """
    return [token.lower() for token in _tokens(normalise(text).text) if _is_word(token)]


def _tokens(text: str) -> list[str]:
    """Words, and marks for pauses: several dots are one."""
    return [token for chunk in _CHUNKS.findall(text) for token in _parted(chunk)]


def _is_word(token: str) -> bool:
    return any(character.isalpha() for character in token)


def _parted(chunk: str) -> list[str]:
    """A word, and the marks before and after it: which dots and apostrophes are part of it?"""
    if not _is_word(chunk):
        return [chunk[0]]
    if chunk[0] == "." or (chunk[0] == "'" and not is_known(chunk.rstrip(".").lower())):
        return [chunk[0], *_parted(chunk.lstrip(chunk[0]))]
    word = chunk.rstrip(".")
    dots = ["."] * (word != chunk)
    known = is_known(word.lower())
    if word[-1] == "'" and not known:
        return [*_parted(word.rstrip("'")), "'", *dots]
    if _INITIALS.fullmatch(word) or (not known and dots and is_known(f"{word}.".lower())):
        return [word]  # "U.S." or "Ph.D.", "etc."
    if "." in word and not known:
        parts = [_parted(part) for part in word.split(".") if part]
        return [token for part in parts for token in (*part, ".")][: None if dots else -1]
    return [word, *dots]
