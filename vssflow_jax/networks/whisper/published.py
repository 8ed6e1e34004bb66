"""Whisper out of the folders that others publish, and out of folders of imported weights.

A folder of imported weights has the vocabulary among its sizes, as there is no text without it.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from vssflow_jax.networks.byte_pairs import NUMBERS_FILE, read_numbers
from vssflow_jax.networks.whisper import convert
from vssflow_jax.networks.whisper.network import Whisper, WhisperConfig
from vssflow_jax.networks.whisper.transcribe import Recogniser
from vssflow_jax.networks.whisper.vocabulary import Vocabulary, with_timestamps
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder as weights
from vssflow_jax.weights import mapping
from vssflow_jax.weights.ctranslate2 import MODEL_FILE, read_ctranslate2
from vssflow_jax.weights.state_dict import (
    StateDict,
    read_config_beside,
    read_json,
    read_state_dict,
)

KIND = "whisper"
LICENCE = "MIT"


class Source(NamedTuple):
    """What a folder of others holds: sizes, vocabulary, our weights and a report."""

    cfg: WhisperConfig
    vocabulary: Vocabulary
    converted: mapping.Conversion

    def sizes(self) -> dict[str, Any]:
        """Sizes and vocabulary, as a folder of imported weights keeps them."""
        return {
            "sizes": dataclasses.asdict(self.cfg),
            "vocabulary": dataclasses.asdict(self.vocabulary),
        }


def read(source: Path) -> Source:
    """The network in a folder of Hugging Face or CTranslate2, or in a file in such a folder.

    Raises:
      UserError: weights, sizes or vocabulary are missing, damaged, or of another network.
    """
    options = read_config_beside(source)
    beside = source if source.is_dir() else source.parent
    by_ctranslate2 = source.name == MODEL_FILE or (source / MODEL_FILE).is_file()
    tensors = _ctranslate2_tensors(source) if by_ctranslate2 else read_state_dict(source)
    cfg = convert.config(tensors, options)
    read_vocabulary = _ctranslate2_vocabulary if by_ctranslate2 else _hugging_face_vocabulary
    return Source(cfg, read_vocabulary(beside, options, cfg), convert.convert_weights(tensors, cfg))


def load(path: Path) -> Recogniser:
    """The network with its weights.

    Args:
      path: a folder as `import_weights` makes it, or what that is made from.

    Raises:
      UserError: nothing is there, or it is of another network or of another version.
    """
    if not weights.is_imported(path):
        source = read(path)
        network = _made(source.cfg)
        nnx.update(network, source.converted[0])
        return Recogniser(source.cfg, network, source.vocabulary)
    saved = weights.read_config(path, KIND)
    try:
        cfg = WhisperConfig(**saved["sizes"])
        vocabulary = Vocabulary(**{name: tuple(x) for name, x in saved["vocabulary"].items()})
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path}: its sizes are of another version ({error}); import the weights again"
        ) from error
    network = _made(cfg)
    nnx.update(network, weights.load(path, KIND, nnx.to_pure_dict(nnx.state(network))))
    return Recogniser(cfg, network, vocabulary)


def _made(cfg: WhisperConfig) -> Whisper:
    """The network, shapes only."""
    return nnx.eval_shape(lambda: Whisper(cfg, rngs=nnx.Rngs(0)))


def _ctranslate2_tensors(source: Path) -> StateDict:
    model = read_ctranslate2(source)
    if model.network != convert.NETWORK:
        raise UserError(
            f"{source} holds a '{model.network}' of CTranslate2, not a '{convert.NETWORK}'; it is "
            f"no file of {convert.PUBLISHED}"
        )
    return model.tensors


# ------------------------------------------------------------------------------------ vocabularies
def _ctranslate2_vocabulary(
    beside: Path, options: Mapping[str, Any], cfg: WhisperConfig
) -> Vocabulary:
    """That of `vocabulary.json`, or of the `vocabulary.txt` of older versions."""
    listed, lines = beside / "vocabulary.json", beside / "vocabulary.txt"
    if listed.is_file():
        tokens = _read_list(listed)
    elif lines.is_file():
        # Not `splitlines`, to which more ends a line than is one here.
        tokens = lines.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    else:
        raise UserError(f"{beside} has no {listed.name} and no {lines.name}; get it again")
    return _vocabulary(
        beside, tokens, cfg, options.get("suppress_ids"), options.get("suppress_ids_begin")
    )


def _hugging_face_vocabulary(
    beside: Path, options: Mapping[str, Any], cfg: WhisperConfig
) -> Vocabulary:
    """That of `tokenizer.json`, or of `vocab.json` and `added_tokens.json`."""
    numbers = read_numbers(beside, NUMBERS_FILE, "added_tokens.json")
    tokens = sorted(numbers, key=lambda token: numbers[token])
    if [numbers[token] for token in tokens] != list(range(len(tokens))):
        raise UserError(f"{beside}: numbers of its tokens are missing; get its tokenizer again")
    generation = beside / "generation_config.json"
    asked = {**options, **(read_json(generation) if generation.is_file() else {})}
    return _vocabulary(
        beside, tokens, cfg, asked.get("suppress_tokens"), asked.get("begin_suppress_tokens")
    )


def _vocabulary(
    beside: Path,
    tokens: list[str],
    cfg: WhisperConfig,
    suppressed: Iterable[int] | None,
    suppressed_first: Iterable[int] | None,
) -> Vocabulary:
    if len(tokens) > cfg.vocabulary:
        raise UserError(
            f"{beside} names {len(tokens)} tokens, but the network has {cfg.vocabulary}; they are "
            "of two networks"
        )
    named = with_timestamps(tokens, cfg.vocabulary)
    return Vocabulary(named, tuple(suppressed or ()), tuple(suppressed_first or ()))


def _read_list(path: Path) -> list[str]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}; get it again") from error
    if not isinstance(values, list):
        raise UserError(f"{path} is not a list of tokens; get it again")
    return values
