"""When somebody speaks in a sound, by the network inside the package `silero-vad` (MIT).

It is a file that onnxruntime runs; the package itself is not imported, since it asks for PyTorch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vssflow_jax.utils import onnx

PACKAGE = "silero_vad"
EXTRA = "extract"
SAMPLING_RATE = 16_000
_WINDOW, _BEFORE = 512, 64  # samples that the network hears at a time, and those before them
# Probabilities with which speech begins and goes on, and what is too short to count.
_BEGINS, _GOES_ON = 0.5, 0.35
_SHORTEST_SPEECH_SEC, _SHORTEST_SILENCE_SEC = 0.25, 0.1

Span = tuple[float, float]


def find_speech(network: Any, waveform: np.ndarray) -> list[Span]:
    """When somebody speaks in a sound [samples] of 16 kHz, in seconds."""
    return spans(_probabilities(network, waveform), _WINDOW / SAMPLING_RATE)


def network() -> Any:
    """The network.

    Raises:
      UserError: the packages are not installed.
    """
    return onnx.session(PACKAGE, "data/silero_vad.onnx", EXTRA)


def spans(probabilities: Sequence[float], window_sec: float) -> list[Span]:
    """Stretches of windows that begin with a likely one and end with a silence of some length.

    Args:
      probabilities: probabilities of speech, of each window.
      window_sec: how long a window is.
    """
    found: list[Span] = []
    begins: int | None = None
    last, silence = 0, max(round(_SHORTEST_SILENCE_SEC / window_sec), 1)
    for number, probability in enumerate([*probabilities, *[0.0] * silence]):
        if probability >= _BEGINS and begins is None:
            begins = number
        if probability >= _GOES_ON:
            last = number
        elif begins is not None and number - last >= silence:
            if (last + 1 - begins) * window_sec >= _SHORTEST_SPEECH_SEC:
                found.append((begins * window_sec, (last + 1) * window_sec))
            begins = None
    return found


def _probabilities(network: Any, waveform: np.ndarray) -> list[float]:
    """Of speech, for each window; the last one is filled up with zeros."""
    padded = np.pad(waveform, (_BEFORE, -len(waveform) % _WINDOW)).astype(np.float32)
    state, rate = np.zeros((2, 1, 128), np.float32), np.array(SAMPLING_RATE, np.int64)
    found = []
    for start in range(0, len(padded) - _BEFORE, _WINDOW):
        heard = padded[None, start : start + _BEFORE + _WINDOW]
        probability, state = network.run(None, {"input": heard, "state": state, "sr": rate})
        found.append(float(probability[0, 0]))
    return found
