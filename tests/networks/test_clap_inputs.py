"""What CLAP hears and reads: log-mels and tokens against transformers, and tokenizers beside it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import ByteLevelBPETokenizer, pre_tokenizers
from transformers import ClapFeatureExtractor, RobertaTokenizer

from tests.networks.test_clap import peer
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.networks import byte_pairs
from vssflow_jax.networks.clap import mel
from vssflow_jax.networks.clap.tokens import TOKENS, Tokenizer
from vssflow_jax.utils.errors import UserError


# --------------------------------------------------------------------------------------- its sounds
def sound(samples: int) -> np.ndarray:
    """A tone, then noise, then silence."""
    n = np.arange(samples)
    noise = np.random.default_rng(0).normal(size=samples)
    parts = [np.sin(0.1 * n), 0.01 * noise, np.zeros(samples)]
    return np.select([n < samples // 3, n < samples // 2], parts[:2], parts[2])


@pytest.mark.parametrize("samples", [1, 1000, 47_999, 225_000, 240_001, 480_000, 480_001, 600_000])
def test_log_mels_are_those_of_transformers(samples: int) -> None:
    extract = ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc", padding="repeatpad")
    waveform = sound(samples)
    heard = waveform[: mel.SAMPLES]  # what ours hears of one that is longer
    wanted = extract(heard, sampling_rate=mel.SAMPLING_RATE, return_tensors="np")["input_features"]
    found = mel.log_mels(waveform[None])
    assert found.shape == (1, mel.FRAMES, mel.BANDS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted[0], atol=1e-4)


def test_log_mels_of_several_sounds() -> None:
    one, other = sound(48_000), np.flip(sound(48_000))
    found = mel.log_mels(np.stack([one, other]))
    np.testing.assert_array_equal(found[1:], mel.log_mels(other[None]))
    assert np.max(np.abs(found[0] - found[1])) > 10


# ---------------------------------------------------------------------------------------- its texts
CORPUS = [
    "A dog barks twice, and then a door's hinge squeaks; it's raining in the distance.",
    "The crowd isn't cheering 12 times 340 seconds later!!  They've left ... ",
    "Birds are singing while a man speaks. An engine idles, then revs   loudly\n\nand stops.",
]
STRANGE = [
    "",
    " ",
    "  two  spaces   ",
    "tabs\tand\nlines\r\n end\n",
    "it's we'll I'M they'd 'tis '' 's'st'",
    "naïve façade Ærø 日本語 Привет ﬁne ½ ² Ⅷ ٣ 一二",
    "a\u00a0b\u2003c\u3000d\u200be\x1cf\x85g\u2028h",
    "e\u0301 \U0001f436\U0001f3fd! \u202e \x00 \ufffd $5.00 @user #1_2",
    "<s> is no token here, nor is x<y>z",
    "word " * 200,
]


def write_tokenizer(folder: Path) -> None:
    """Write the files of a small tokenizer like RoBERTa's, one of all three kinds."""
    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(
        CORPUS, vocab_size=370, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    )
    learned.save_model(str(folder))
    learned.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: Any) -> Path:
    made = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(made)
    return made


@pytest.mark.parametrize("kept", [("tokenizer.json",), ("vocab.json", "merges.txt")])
def test_tokens_are_those_of_transformers(
    kept: tuple[str, ...], tokenizer_folder: Path, tmp_path: Path
) -> None:
    for name in kept:
        shutil.copy(tokenizer_folder / name, tmp_path / name)
    # Special tokens in a text are text here; those are none that a caption would hold.
    said = [text for text in (*CORPUS, *STRANGE) if "<s>" not in text]
    theirs = RobertaTokenizer.from_pretrained(tokenizer_folder)
    wanted = theirs(
        said, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="np"
    )
    found = Tokenizer.read(tmp_path)(said)
    np.testing.assert_array_equal(found.tokens, wanted["input_ids"])
    np.testing.assert_array_equal(found.lengths, wanted["attention_mask"].sum(axis=1))
    assert found.lengths.max() == TOKENS
    assert found.tokens.max() > 261  # bytes were joined


@pytest.mark.parametrize("text", [*CORPUS, *STRANGE])
def test_pieces_are_those_of_gpt2(text: str) -> None:
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    characters = byte_pairs.bytes_of_characters()
    wanted = [bytes(characters[x] for x in piece).decode() for piece, _ in theirs]
    assert byte_pairs.pieces_of(text) == wanted
    assert "".join(wanted) == text


def test_the_tokenizer_is_imported_with_the_weights(tokenizer_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    peer().save_pretrained(source)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(tokenizer_folder / name, source / name)
    import_weights("clap", source, tmp_path / "imported")
    names = {path.name for path in (tmp_path / "imported").iterdir()}
    assert names == {"weights.safetensors", "config.json", "vocab.json", "merges.txt"}
    found, wanted = (
        Tokenizer.read(path)(CORPUS) for path in (tmp_path / "imported", tokenizer_folder)
    )
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    beside = Tokenizer.read(source / "model.safetensors")(CORPUS)
    np.testing.assert_array_equal(beside.tokens, wanted.tokens)


def _without(key: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        values = json.loads(text)
        del values[key]
        return json.dumps(values)

    return change


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("merges.txt", None, r"has no tokenizer: no tokenizer\.json, and no vocab\.json with"),
        ("vocab.json", None, r"vocab\.json is missing"),
        ("merges.txt", lambda text: text + "one\n", r"merges\.txt: 'one' is not a pair of tokens"),
        ("merges.txt", lambda text: text + "ab cd\n", "no number for 1 of the tokens .* 'abcd'"),
        ("vocab.json", _without("Ġ"), "no number for 1 of the tokens that it makes, such as 'Ġ'"),
        ("vocab.json", _without("<pad>"), "has no token '<pad>'; put there RoBERTa's"),
    ],
)
def test_what_is_no_tokenizer_of_clap_is_refused(
    name: str,
    change: Callable[[str], str] | None,
    says: str,
    tokenizer_folder: Path,
    tmp_path: Path,
) -> None:
    for kept in ("vocab.json", "merges.txt"):
        shutil.copy(tokenizer_folder / kept, tmp_path / kept)
    text = (tmp_path / name).read_text(encoding="utf-8")
    (tmp_path / name).unlink()
    if change is not None:
        (tmp_path / name).write_text(change(text), encoding="utf-8")
    with pytest.raises(UserError, match=says) as error:
        Tokenizer.read(tmp_path)
    assert "\n" not in str(error.value)
