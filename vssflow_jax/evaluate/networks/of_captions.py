"""The networks that read what is to be heard in a clip.

Letters: n tokens.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vssflow_jax.evaluate.networks.judge import Example, Judge
from vssflow_jax.evaluate.networks.of_sounds import Clap
from vssflow_jax.evaluate.networks.store import Made
from vssflow_jax.networks import published
from vssflow_jax.networks.clap.tokens import Tokenizer
from vssflow_jax.networks.spread import Spread
from vssflow_jax.utils.errors import UserError


class ClapText(Judge):
    """LAION-CLAP: what a caption says, in the space of sounds."""

    kind, shown, title = Clap.kind, "caption", Clap.title
    source = Clap.source

    @property
    def lacking(self) -> str:
        """See `Judge`."""
        if published.NETWORKS[self.kind].files_beside(self.weights):
            return ""
        return (
            f"no tokenizer lies beside the weights of {self.title} ({self.weights}): put there "
            "RoBERTa's, tokenizer.json or vocab.json and merges.txt (docs/weights.md)"
        )

    def check(self) -> None:
        """See `Judge`."""
        last = max(_tokenizer(self.weights).pairs.numbers.values())
        vocabulary = published.config(self.kind, self.weights).vocabulary
        if last >= vocabulary:
            raise UserError(
                f"{self.weights}: the tokenizer beside the weights has a token {last}, and these "
                f"know {vocabulary} from 0 on; put there RoBERTa's"
            )

    def example(self, caption: str, max_sec: float) -> Example:
        """The tokens of a caption [n], padded, and how many there are."""
        del max_sec
        tokens, lengths = _tokenizer(self.weights)([caption])
        return tokens[0], lengths[0]

    def features(self, examples: Sequence[Example]) -> list[Made]:
        tokens, lengths = map(np.stack, zip(*examples, strict=True))
        made = Spread.load("clap_text", self.weights)(tokens, lengths)
        return [{"features": row} for row in made]


@functools.cache
def _tokenizer(weights: Path) -> Tokenizer:
    return Tokenizer.read(weights)


def forget() -> None:
    """Let go of the tokenizer that is held here."""
    _tokenizer.cache_clear()
