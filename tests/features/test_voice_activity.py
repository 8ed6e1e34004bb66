"""When somebody speaks in a sound."""

import numpy as np
import pytest

from data.demo import speech as voices
from vssflow_jax.features import voice_activity


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.0] * 10, []),
        ([0.9] * 10, [(0.0, 1.0)]),
        ([0.0, 0.9, 0.9, 0.9, 0.4, 0.0, 0.0], [(0.1, 0.5)]),
        ([0.4, 0.4, 0.9, 0.9, 0.9, 0.0, 0.9, 0.9, 0.9], [(0.2, 0.5), (0.6, 0.9)]),
        ([0.0, 0.9, 0.9, 0.0, 0.0], []),  # a click
    ],
)
def test_spans_of_speech(probabilities: list[float], expected: list[tuple[float, float]]) -> None:
    np.testing.assert_allclose(
        np.ravel(voice_activity.spans(probabilities, 0.1)), np.ravel(expected), atol=1e-9
    )


def test_spans_are_those_of_the_package() -> None:
    """To within what it adds at both ends."""
    silero_vad = pytest.importorskip("silero_vad")
    torch = pytest.importorskip("torch")
    texts = ("lay green in x zero soon", "bin white at m eight soon")
    parts = [voices.synthesize(text, "f5", voices.VOICES["f5"]).waveform for text in texts]
    pause = np.zeros(voices.SAMPLING_RATE, np.float32)
    sound = np.concatenate([pause, parts[0], pause, parts[1], pause])
    theirs = silero_vad.get_speech_timestamps(
        torch.from_numpy(sound), silero_vad.load_silero_vad(), sampling_rate=16_000
    )
    ours = voice_activity.find_speech(voice_activity.network(), sound)
    expected = [(one["start"] / 16_000, one["end"] / 16_000) for one in theirs]
    np.testing.assert_allclose(ours, expected, atol=0.07)
