"""The recogniser reads GRID sentences, and the word error rate counts what it misreads."""

import re
import sys

import numpy as np
import pytest

from data.demo import speech
from vssflow_jax import grid
from vssflow_jax.errors import UserError
from vssflow_jax.evaluate.metrics import wer

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
    assert wer.corpus_wer(SENTENCES, wer.transcribe(waveforms, workers=1)) <= 1 / 18


def test_transcripts_depend_on_nothing_but_the_waveform(waveforms):
    alone = [wer.transcribe([waveform], workers=1)[0] for waveform in waveforms]
    assert wer.transcribe(waveforms[::-1], workers=2) == alone[::-1]


def test_the_recogniser_forgets_the_utterance_before(waveforms):
    """The score of a decoding moves with whatever is carried over, long before a word does."""
    scores = []
    for earlier in ([], [np.random.default_rng(0).normal(0, 0.3, 16_000)]):
        decoder = wer._decoder()
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
    transcripts = wer.transcribe(inputs, workers=1)
    assert len(transcripts) == len(inputs)
    assert all(isinstance(transcript, str) for transcript in transcripts)
    assert wer.transcribe([], workers=2) == []


def test_word_error_rate_by_hand():
    references = ["bin blue at f two now", "set red in s nine please"]
    hypotheses = ["bin blue at s two", "set red in s nine please"]
    assert wer.utterance_wer(references, hypotheses) == pytest.approx([2 / 6, 0.0])
    assert wer.corpus_wer(references, hypotheses) == pytest.approx(2 / 12)
    assert wer.corpus_wer(references, ["", ""]) == 1.0


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="1 references for 2 hypotheses"):
        wer.corpus_wer(["bin"], ["bin", "lay"])
    with pytest.raises(ValueError, match="shorter"):
        wer.utterance_wer(["bin", "lay"], ["bin"])


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("pocketsphinx", lambda: wer.transcribe([np.zeros(48_000, np.float32)], workers=1)),
        ("jiwer", lambda: wer.corpus_wer(["bin"], ["bin"])),
    ],
)
def test_a_missing_package_names_its_extra(monkeypatch, package, call):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[demo\]'"):
        call()
