"""What Whisper's tokens stand for.

Text tokens are bytes, written as the characters that GPT-2's tokenizer has for them (Radford et al.
2019; MIT); behind the text tokens come the special ones, the end of a text first, timestamps last.
"""

import dataclasses
import functools
from collections.abc import Iterable

from vssflow_jax.networks.byte_pairs import bytes_of_characters
from vssflow_jax.utils.errors import UserError

END = "<|endoftext|>"
START = "<|startoftranscript|>"
TRANSCRIBE = "<|transcribe|>"
NO_TIMESTAMPS = "<|notimestamps|>"
TIMESTAMP_SEC = 0.02

_ENGLISH_ONLY_TOKENS = 51_864  # one less than of any network of several languages


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens of a network, and which of them it must not say.

    Attributes:
      tokens: by number.
      suppressed: never said.
      suppressed_first: not said first, so that something is said at all.
    """

    tokens: tuple[str, ...]
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()

    @functools.cached_property
    def end(self) -> int:
        """The end of a text, the first of the special tokens."""
        return self._number(END)

    def prompt(self, language: str) -> tuple[int, ...]:
        """What asks for a transcript without timestamps.

        Args:
          language: two letters or three, such as "en".

        Raises:
          UserError: the network does not know that language.
        """
        asked = f"<|{language}|>"
        if len(self.tokens) == _ENGLISH_ONLY_TOKENS:
            if language != "en":
                raise UserError(f"language is '{language}', but this Whisper knows English only")
            words = [START, NO_TIMESTAMPS]
        elif asked in self.tokens:
            words = [START, asked, TRANSCRIBE, NO_TIMESTAMPS]
        else:
            raise UserError(f"language is '{language}', which this Whisper does not know")
        return tuple(map(self._number, words))

    def text(self, numbers: Iterable[int]) -> str:
        """What tokens say, without the special ones and without space around it."""
        characters = "".join(self.tokens[number] for number in numbers if number < self.end)
        said = bytes(bytes_of_characters()[character] for character in characters)
        return said.decode("utf-8", errors="replace").strip()

    def _number(self, token: str) -> int:
        if token not in self.tokens:
            raise UserError(f"the vocabulary has no token '{token}'; it is none of Whisper's")
        return self.tokens.index(token)


def with_timestamps(tokens: Iterable[str], total: int) -> tuple[str, ...]:
    """As many tokens as a network has, where a file leaves out the last ones, timestamps."""
    named = tuple(tokens)
    times = (f"<|{number * TIMESTAMP_SEC:.2f}|>" for number in range(total - len(named)))
    return (*named, *times)
