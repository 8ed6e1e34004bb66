"""When somebody speaks in a sound."""

import importlib.util

import numpy as np
import pytest
import silero_vad
import torch
from silero_vad.utils_vad import get_speech_timestamps_from_probs

from data.demo import speech as voices
from vssflow_jax.features import voice_activity
from vssflow_jax.features.voice_activity import SAMPLING_RATE, find_speech, spans
from vssflow_jax.utils.errors import UserError

WINDOW = 512


def in_seconds(theirs: list[dict[str, int]]) -> list[tuple[float, float]]:
    return [(one["start"] / SAMPLING_RATE, one["end"] / SAMPLING_RATE) for one in theirs]


@pytest.mark.parametrize(
    ("probabilities", "windows"),
    [
        ([0.0] * 20, []),
        ([0.9] * 20, [(0, 20)]),
        ([0.0] * 5 + [0.9] * 10 + [0.4] * 3 + [0.0] * 9, [(5, 18)]),
        ([0.4] * 5 + [0.9] * 10 + [0.0] * 4 + [0.9] * 10, [(5, 29)]),
        ([0.4] * 5 + [0.9] * 10 + [0.0] * 5 + [0.9] * 10, [(5, 15), (20, 30)]),
        ([0.0] * 5 + [0.9] * 7 + [0.0] * 9, []),  # 0.224 s
        ([0.0] * 5 + [0.9] * 8 + [0.0] * 9, [(5, 13)]),
    ],
)
def test_spans_of_speech(probabilities: list[float], windows: list[tuple[int, int]]) -> None:
    length = len(probabilities) * WINDOW
    expected = [
        (max(begins * WINDOW - 480, 0), min(ends * WINDOW + 480, length))
        for begins, ends in windows
    ]
    found = np.array(spans(probabilities, length)) * SAMPLING_RATE
    np.testing.assert_allclose(found.ravel(), np.ravel(expected), atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_those_of_the_package(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # They wander, so that some stretches are long and others short.
    steps = rng.normal(scale=rng.uniform(0.05, 0.6), size=3000)
    probabilities = (0.5 + 0.5 * np.sin(np.cumsum(steps))).tolist()
    length = len(probabilities) * WINDOW - int(rng.integers(WINDOW))
    theirs = get_speech_timestamps_from_probs(probabilities, audio_length_samples=length)
    assert len(theirs) > 4
    assert spans(probabilities, length) == in_seconds(theirs)


def test_speech_is_found_where_the_package_finds_it() -> None:
    texts = ("lay green in x zero soon", "bin white at m eight soon")
    parts = [voices.synthesize(text, "f5", voices.VOICES["f5"]).waveform for text in texts]
    pause = np.zeros(voices.SAMPLING_RATE, np.float32)
    sound = np.concatenate([pause, parts[0], pause, parts[1], pause])
    theirs = silero_vad.get_speech_timestamps(
        torch.from_numpy(sound), silero_vad.load_silero_vad(), sampling_rate=SAMPLING_RATE
    )
    assert len(theirs) >= 2
    assert find_speech(sound) == in_seconds(theirs)


@pytest.mark.parametrize("length", [0, 1, 511, 513])
def test_a_very_short_sound_has_no_speech(length: int) -> None:
    assert find_speech(np.ones(length, np.float32)) == []


@pytest.mark.parametrize("missing", ["silero_vad", "onnxruntime"])
def test_without_a_package_it_is_one_line(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    with pytest.raises(UserError, match=rf"package {missing} is missing: run .*\[speech\].*--no-d"):
        voice_activity.find_speech(np.zeros(16_000, np.float32))
