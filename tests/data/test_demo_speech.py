"""Synthetic speech: reproducible, timed, intelligible; every phoneme has a mouth shape."""

import itertools

import numpy as np
import pytest

from data.demo import looks, speech, visemes
from vssflow_jax.evaluate.metrics import wer
from vssflow_jax.features import grid
from vssflow_jax.utils.errors import UserError

MAX_WER = 0.15


def test_same_arguments_give_the_same_speech_whatever_was_spoken_before():
    first = speech.synthesize("bin blue at f two now", "f2", 140, 50)
    speech.synthesize("set red with a nine again", "m6", 150, 60)
    again = speech.synthesize("bin blue at f two now", "f2", 140, 50)
    np.testing.assert_array_equal(first.waveform, again.waveform)
    assert first.phonemes == again.phonemes


def test_phonemes_cover_the_waveform_in_order_of_time():
    spoken = speech.synthesize("place green by z six please", "klatt", 140, 50)
    times = [time for time, _ in spoken.phonemes]
    assert times[0] == 0.0
    assert times == sorted(times)
    assert times[-1] < spoken.duration_sec < times[-1] + 0.3
    assert spoken.waveform.dtype == np.float32
    assert np.abs(spoken.waveform[: speech.SAMPLING_RATE // 20]).max() > 0.001


def test_words_are_timed_by_their_phonemes():
    spoken = speech.synthesize("place green by z six please", "klatt", 140, 50)
    names = dict(spoken.phonemes)
    assert len(spoken.words) == 6
    assert [names[word[0]] for word in spoken.words] == ["p", "g", "b", "z", "s", "p"]
    assert list(itertools.chain(*spoken.words)) == [time for time, _ in spoken.phonemes]


def test_a_faster_voice_is_shorter_and_voices_differ():
    slow, fast = (speech.synthesize("lay red in b one soon", "f3", rate, 50) for rate in (120, 160))
    assert fast.duration_sec < 0.85 * slow.duration_sec
    spoken = [speech.synthesize("lay red in b one soon", *voice) for voice in speech.VOICES.items()]
    for one, other in itertools.combinations(spoken, 2):
        assert not np.array_equal(one.waveform, other.waveform)


def test_the_letter_a_is_spoken_by_its_name():
    phonemes = [name for _, name in speech.synthesize("at a two", "f2", 140, 50).phonemes]
    assert any("eI" in name for name in phonemes)


def test_unknown_voice_is_the_users_error():
    with pytest.raises(UserError, match="no-such-voice"):
        speech.synthesize("bin", "no-such-voice", 140, 50)


def test_a_long_path_to_the_engines_data_works(tmp_path, monkeypatch):
    data_path = speech.espeakng_loader.get_data_path()
    folder = tmp_path / ("deep" * 40)
    folder.mkdir()
    link = folder / "espeak-ng-data"
    link.symlink_to(data_path, target_is_directory=True)
    expected = speech.synthesize("bin", "f2", 140, 50)
    monkeypatch.setattr(speech.espeakng_loader, "get_data_path", lambda: str(link))
    np.testing.assert_array_equal(
        speech.synthesize("bin", "f2", 140, 50).waveform, expected.waveform
    )


def test_every_voice_is_read_by_the_recogniser():
    rng = np.random.default_rng(0)
    for voice in speech.VOICES.items():
        sentences = [grid.sentence(rng) for _ in range(8)]
        errors = [
            wer.word_errors(text, wer.transcribe(speech.synthesize(text, *voice).waveform))
            for text in sentences
        ]
        wrong, words = (
            sum(part) for part in zip(*((x.total, x.said) for x in errors), strict=True)
        )
        assert wrong / words <= MAX_WER, f"{voice[0]}: {wrong} of {words}"


def test_every_phoneme_of_the_grammar_has_a_mouth_shape():
    # Each pair of neighbouring words once, as the engine links words ("four again").
    pairs = [
        pair
        for first, second in itertools.pairwise(grid.SLOTS.values())
        for pair in itertools.product(first, second)
    ]
    text = " ".join(word for pair in pairs for word in pair)
    phonemes = {name for _, name in speech.synthesize(text, "klatt", 300, 50).phonemes}
    names = {viseme for phoneme in phonemes for viseme in _visemes(phoneme)}
    assert len(names) >= 12
    assert looks.LOOKS.keys() == speech.VOICES.keys()


def _visemes(phoneme: str) -> list[str]:
    return [] if phoneme.startswith("_") else visemes.visemes_of(phoneme)
