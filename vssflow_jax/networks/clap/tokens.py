"""The tokens of texts as RoBERTa, CLAP's network of text, reads them.

Letters: b texts, n tokens.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.networks.byte_pairs import BytePairs
from vssflow_jax.utils.errors import UserError

TOKENS = 77
"""The most that CLAP was trained with; what goes beyond is cut."""

_START, _PADDING, _END = "<s>", "<pad>", "</s>"


class Tokens(NamedTuple):
    """Texts as `Clap.text` takes them: tokens int32 [b, n], padded, and lengths int32 [b]."""

    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Texts as tokens: what a text says between a first token and a last one."""

    pairs: BytePairs

    @classmethod
    def read(cls, path: Path) -> "Tokenizer":
        """That of a folder of weights, or beside a file of them.

        Args:
          path: with RoBERTa's `tokenizer.json`, or its `vocab.json` and `merges.txt`.

        Raises:
          UserError: these are missing, damaged, or of another tokenizer.
        """
        folder = path if path.is_dir() else path.parent
        pairs = BytePairs.read(folder)
        missing = [token for token in (_START, _PADDING, _END) if token not in pairs.numbers]
        if missing:
            raise UserError(
                f"{folder}: its tokenizer has no token '{missing[0]}'; put there RoBERTa's, which "
                "is that of CLAP"
            )
        return cls(pairs)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokens of texts, `TOKENS` of each."""
        start, padding, end = (self.pairs.numbers[token] for token in (_START, _PADDING, _END))
        rows = [[start, *self.pairs.encode(text)[: TOKENS - 2], end] for text in texts]
        tokens = np.full((len(rows), TOKENS), padding, np.int32)
        for row, numbers in zip(tokens, rows, strict=True):
            row[: len(numbers)] = numbers
        return Tokens(tokens, np.array([len(row) for row in rows], np.int32))
