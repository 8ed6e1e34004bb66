"""The recogniser reads GRID sentences, and the word error rate counts what it misreads."""

import importlib
import re
import sys

import numpy as np
import pytest

from data.demo import speech
from vssflow_jax.evaluate.metrics import wer
from vssflow_jax.features import grid
from vssflow_jax.utils.errors import UserError

SENTENCES = ["bin blue at f two now", "set red in s nine please", "lay white with x four soon"]


@pytest.fixture(scope="module")
def waveforms() -> list[np.ndarray]:
    return [np.pad(speech.synthesize(text, "f2", 140, 50).waveform, 8000) for text in SENTENCES]


def test_sentences_have_one_word_of_each_slot():
    rng = np.random.default_rng(0)
    drawn = [grid.sentence(rng).split() for _ in range(500)]
    for slot, (name, words) in enumerate(grid.SLOTS.items()):
        assert {sentence[slot] for sentence in drawn} == set(words), name
    assert [len(words) for words in grid.SLOTS.values()] == [4, 4, 4, 25, 10, 4]
    assert "w" not in grid.SLOTS["letter"]


def test_grammar_names_each_slot_with_its_words():
    grammar = grid.jsgf()
    assert grammar.startswith("#JSGF V1.0;")
    (sentence,) = re.findall(r"public <\w+> = (.*);", grammar)
    assert sentence == " ".join(f"<{slot}>" for slot in grid.SLOTS)
    for slot, words in grid.SLOTS.items():
        assert f"\n<{slot}> = {' | '.join(words)};\n" in grammar


def test_recogniser_reads_speech(waveforms):
    read = map(wer.transcribe, waveforms)
    assert sum(wer.word_errors(*pair).total for pair in zip(SENTENCES, read, strict=True)) <= 1


def test_transcripts_depend_on_nothing_but_the_waveform(waveforms):
    read = [*map(wer.transcribe, waveforms)]
    assert [*map(wer.transcribe, waveforms[::-1])] == read[::-1]


def test_the_recogniser_forgets_the_utterance_before(waveforms):
    """The score of a decoding moves with whatever is carried over, long before a word does."""
    scores = []
    for earlier in ([], [np.random.default_rng(0).normal(0, 0.3, 16_000)]):
        decoder = wer._decoder.__wrapped__()
        for waveform in [*earlier, waveforms[0]]:
            wer._decode(decoder, waveform)
        scores.append(decoder.hyp().score)
    assert scores[0] == scores[1]


def test_silence_noise_and_nothing_are_no_errors():
    rng = np.random.default_rng(0)
    inputs = [
        np.zeros(48_000, np.float32),
        rng.standard_normal(48_000).astype(np.float32),
        *(np.zeros(num_samples, np.float32) for num_samples in (0, 1, 399, 400, 600, 2_000)),
    ]
    assert all(isinstance(wer.transcribe(sound), str) for sound in inputs)


def test_errors_and_words_by_hand():
    assert wer.word_errors("bin blue at f two now", "bin blue at s two") == (1, 1, 0, 6)
    assert wer.word_errors("set red in s nine please", "set red in s nine please") == (0, 0, 0, 6)
    assert wer.word_errors("set red", "") == (0, 2, 0, 2)
    assert wer.word_errors("yes", "no yes no") == (0, 0, 2, 1)


def test_words_that_are_not_in_an_empty_reference_are_errors():
    assert wer.word_errors("", "") == (0, 0, 0, 0)
    assert wer.word_errors("", "two words") == (0, 0, 2, 0)


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        ("raw", ["It's", "a", "well-known", "fact!"]),
        ("lower_nopunct", "its a wellknown fact".split()),
    ],
)
def test_normalisation(normalisation: wer.Normalisation, expected: list[str]):
    assert wer.words("  It's a   well-known fact! ", normalisation) == expected
    errors = wer.word_errors("It's a well-known fact!", "its a wellknown fact", normalisation)
    assert errors.total == (3 if normalisation == "raw" else 0)


def test_what_is_said_is_compared_however_it_is_written():
    said = "Dr. Lee paid $5.50 — on the 1st."
    heard = "doctor lee paid five dollars fifty cents on the first"
    assert wer.word_errors(said, heard, "spoken") == (0, 0, 0, 10)
    assert wer.word_errors("I have 42", "I have forty", "spoken").total == 1


def test_characters_by_hand():
    assert wer.character_errors("set red", "set bed") == (1, 0, 0, 7)
    assert wer.character_errors("set red", "setred") == (0, 1, 0, 7)
    assert wer.character_errors("", "ab") == (0, 0, 2, 0)
    assert wer.character_errors("Set, red!", "set red", "lower_nopunct").total == 0


def test_what_is_confused_with_what():
    assert wer.confusions("set red in s now", "set bed in now") == [("red", "bed"), ("s", "")]
    assert wer.confusions("yes", "no yes no") == [("", "no"), ("", "no")]
    assert wer.confusions("", "") == []


SAID = (
    "Mr. Smith's colour TV cost $1,250.50 in 1984, didn't it?",
    "um, I'm gonna see the 21st theatre [laughs] at twenty five past two",
    "She won't've gone (I think) ... 3.5 per cent!",
    "Émile's naïve favourite — forty-two 1,000s of £10 notes",
    "",
)


@pytest.mark.parametrize("text", SAID)
def test_texts_are_made_alike_as_whisper_does_it(text):
    """Held against another writer's copy of the normaliser of Whisper's release."""
    own = "transformers.models.whisper.english_normalizer"
    theirs = importlib.import_module(own).EnglishTextNormalizer(_spellings())
    assert wer.words(text, "whisper") == theirs(text).split()


def _spellings() -> dict[str, str]:
    """The table of British and American spellings, which the release keeps in a file of its own."""
    return wer._english().standardize_spellings.mapping


def test_a_number_in_words_is_the_same_as_in_digits():
    said, heard = "I have forty two colours.", "i've 42 colors"
    assert wer.word_errors(said, heard, "whisper") == (0, 0, 0, 4)


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("pocketsphinx", "demo", lambda: wer._decoder.__wrapped__()),
        ("jiwer", "metrics", lambda: wer.word_errors("bin", "bin")),
    ],
)
def test_a_missing_package_names_its_extra(monkeypatch, package, extra, call):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"pip install -e '\.\[{extra}\]'"):
        call()
