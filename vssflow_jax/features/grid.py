"""The sentence grammar of the GRID audio-visual corpus.

A sentence has six words, one of each slot of `SLOTS`, as in "bin blue at f two now".
"""

from collections.abc import Sequence
from operator import contains
from typing import Final

import numpy as np

SLOTS: Final[dict[str, tuple[str, ...]]] = {
    "command": ("bin", "lay", "place", "set"),
    "colour": ("blue", "green", "red", "white"),
    "preposition": ("at", "by", "in", "with"),
    # All letters but w, the only one whose name has more than one syllable.
    "letter": tuple("abcdefghijklmnopqrstuvxyz"),
    "digit": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "adverb": ("again", "now", "please", "soon"),
}
"""Slot name -> the words that may stand in it, in the order in which the slots are spoken."""


def is_sentence(words: Sequence[str]) -> bool:
    """Whether the words are one of the grammar's sentences."""
    slots = list(SLOTS.values())
    return len(words) == len(slots) and all(map(contains, slots, words))


def sentence(rng: np.random.Generator) -> str:
    """Draws one sentence: each slot's word uniformly, words separated by one space."""
    return " ".join(words[rng.integers(len(words))] for words in SLOTS.values())


def jsgf() -> str:
    """The grammar in the JSpeech Grammar Format; it accepts exactly the GRID sentences."""
    sequence = " ".join(f"<{slot}>" for slot in SLOTS)
    rules = [f"public <sentence> = {sequence};"]
    rules += [f"<{slot}> = {' | '.join(words)};" for slot, words in SLOTS.items()]
    return "\n".join(["#JSGF V1.0;", "grammar grid;", *rules]) + "\n"
