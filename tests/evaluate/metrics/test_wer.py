"""The recogniser reads GRID sentences, and the word error rate counts what it misreads."""

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
    assert sum(wer.word_errors(*pair)[0] for pair in zip(SENTENCES, read, strict=True)) <= 1


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
    assert wer.word_errors("bin blue at f two now", "bin blue at s two") == (2, 6)
    assert wer.word_errors("set red in s nine please", "set red in s nine please") == (0, 6)
    assert wer.word_errors("set red", "") == (2, 2)
    assert wer.word_errors("yes", "no yes no") == (2, 1)


def test_words_that_are_not_in_an_empty_reference_are_errors():
    assert wer.word_errors("", "") == (0, 0)
    assert wer.word_errors("", "two words") == (2, 0)


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        ("raw", ["It's", "a", "well-known", "fact!"]),
        ("lower_nopunct", "its a wellknown fact".split()),
    ],
)
def test_normalisation(normalisation: wer.Normalisation, expected: list[str]):
    assert wer.words("  It's a   well-known fact! ", normalisation) == expected
    errors, _ = wer.word_errors("It's a well-known fact!", "its a wellknown fact", normalisation)
    assert errors == (3 if normalisation == "raw" else 0)


def test_what_is_said_is_compared_however_it_is_written():
    said = "Dr. Lee paid $5.50 — on the 1st."
    heard = "doctor lee paid five dollars fifty cents on the first"
    assert wer.word_errors(said, heard, "spoken") == (0, 10)
    assert wer.word_errors("I have 42", "I have forty", "spoken") == (1, 4)


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("pocketsphinx", lambda: wer._decoder.__wrapped__()),
        ("jiwer", lambda: wer.word_errors("bin", "bin")),
    ],
)
def test_a_missing_package_names_its_extra(monkeypatch, package, call):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[demo\]'"):
        call()
