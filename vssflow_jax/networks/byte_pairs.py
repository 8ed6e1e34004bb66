"""Byte-level pair encoding (Radford et al. 2019): texts as tokens, which are strings of bytes.

A byte is written as one character, so that all tokens can be read. The files are those that Hugging
Face keeps tokenizers in: `tokenizer.json`, or `vocab.json` and `merges.txt`.
"""

import dataclasses
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.state_dict import read_json

WHOLE_FILE, NUMBERS_FILE, MERGES_FILE = "tokenizer.json", "vocab.json", "merges.txt"
FILES = (WHOLE_FILE, NUMBERS_FILE, MERGES_FILE)

Pair = tuple[str, str]


@functools.cache
def bytes_of_characters() -> dict[str, int]:
    """GPT-2's character for a byte -> the byte.

    What Latin-1 prints stands for itself; the other bytes, in order, are characters from 256 on.
    """
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printed += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


def read_numbers(folder: Path, *parts: str) -> dict[str, int]:
    """Token -> its number, of all tokens of a tokenizer.

    Args:
      folder: with its files.
      *parts: names of the files that are read together where there is no `tokenizer.json`.

    Raises:
      UserError: files are missing or damaged.
    """
    whole = folder / WHOLE_FILE
    if not whole.is_file():
        return {
            token: number for part in parts for token, number in read_json(folder / part).items()
        }
    values = read_json(whole)
    numbers = dict(values.get("model", {}).get("vocab", {}))
    return numbers | {token["content"]: token["id"] for token in values.get("added_tokens", [])}


@dataclasses.dataclass(frozen=True)
class BytePairs:
    """How texts become tokens.

    Attributes:
      numbers: token -> its number.
      ranks: two tokens that may be joined -> their place among all; the first is joined first.
    """

    numbers: Mapping[str, int]
    ranks: Mapping[Pair, int]

    @classmethod
    def read(cls, folder: Path) -> "BytePairs":
        """That of a folder of Hugging Face.

        Raises:
          UserError: files are missing, damaged, or not of byte pairs.
        """
        merges = list(_read_merges(folder))
        numbers = read_numbers(folder, NUMBERS_FILE)
        # Or a text could become a token that has no number.
        made = (*bytes_of_characters(), *(first + second for first, second in merges))
        missing = [token for token in made if token not in numbers]
        if missing:
            raise UserError(
                f"{folder}: its tokenizer has no number for {len(missing)} of the tokens that it "
                f"makes, such as '{missing[0]}'; it is not one of byte pairs, or its files are of "
                "two: get them again"
            )
        return cls(numbers, {pair: rank for rank, pair in enumerate(merges)})

    def encode(self, text: str) -> list[int]:
        """The numbers of the tokens of a text, in which nothing is a special token."""
        characters = {byte: character for character, byte in bytes_of_characters().items()}
        pieces = (
            "".join(characters[byte] for byte in piece.encode("utf-8", errors="replace"))
            for piece in pieces_of(text)
        )
        return [self.numbers[token] for piece in pieces for token in self._joined(piece)]

    def _joined(self, piece: str) -> list[str]:
        """The characters of a piece, joined pair by pair for as long as pairs may be joined."""
        tokens = list(piece)
        while True:
            pairs = [pair for pair in itertools.pairwise(tokens) if pair in self.ranks]
            if not pairs:
                return tokens
            first, second = min(pairs, key=self.ranks.__getitem__)
            joined: list[str] = []
            for token in tokens:
                if token == second and joined and joined[-1] == first:
                    joined[-1] = first + second
                else:
                    joined.append(token)
            tokens = joined


def _read_merges(folder: Path) -> Iterator[Pair]:
    whole, lines = folder / WHOLE_FILE, folder / MERGES_FILE
    if whole.is_file():
        path, merges = whole, read_json(whole).get("model", {}).get("merges")
    elif lines.is_file():
        # Not `splitlines`, to which more ends a line than is one here.
        path, text = lines, lines.read_text(encoding="utf-8").removesuffix("\n")
        merges = [line for line in text.split("\n") if not line.startswith("#version")]
    else:
        raise UserError(
            f"{folder} has no tokenizer: no {WHOLE_FILE}, and no {NUMBERS_FILE} with a "
            f"{MERGES_FILE}; put there those that belong to the weights"
        )
    for merge in merges or ():
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if len(pair) != 2:
            raise UserError(f"{path}: '{merge}' is not a pair of tokens; get it again")
        yield pair[0], pair[1]


# ------------------------------------------------------------------------------------------ pieces
# In what `_kinds` makes of a text: endings of English, letters, numbers, others, space.
_PIECES = re.compile(
    r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?0+| ?[^ \tA-Za-z0]+|[ \t]+(?![^ \t])|[ \t]+"
)
_SPACES = "\t\n\v\f\r\x85"  # beside those that Unicode calls separators


def pieces_of(text: str) -> list[str]:
    """The pieces of a text that tokens do not reach over, which joined are the text.

    They are runs of letters, of numbers, of other characters, each with a space before it if there
    is one, runs of space, and what English writes behind an apostrophe.
    """
    return [text[match.start() : match.end()] for match in _PIECES.finditer(_kinds(text))]


def _kinds(text: str) -> str:
    """A text with one character for all of a kind, but for spaces and what ASCII has of letters."""
    return "".join(map(_kind, text))


def _kind(character: str) -> str:
    if character in " '" or (character.isascii() and character.isalpha()):
        return character
    category = unicodedata.category(character)
    if character in _SPACES or category[0] == "Z":
        return "\t"
    return {"L": "a", "N": "0"}.get(category[0], "!")
