"""Where long videos are cut into clips: at even lengths, but in silence where somebody speaks.

Speech is found by the network inside the package `silero-vad` (MIT), a file that onnxruntime runs;
the package itself is not imported, since it asks for PyTorch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vssflow_jax import media
from vssflow_jax.utils import onnx
from vssflow_jax.utils.errors import UserError

SHORTEST_SEC = 1.0
"""What is left at the end is no clip of its own if it is shorter."""
VOICE_ACTIVITY = "silero_vad"
EXTRA = "extract"
_SAMPLING_RATE = 16_000
_WINDOW, _BEFORE = 512, 64  # samples that the network hears at a time, and those before them
# Probabilities with which speech begins and goes on, and what is too short to count.
_BEGINS, _GOES_ON = 0.5, 0.35
_SHORTEST_SPEECH_SEC, _SHORTEST_SILENCE_SEC = 0.25, 0.1

Span = tuple[float, float]


def cuts(duration_sec: float, segment_sec: float, speech: Sequence[Span] = ()) -> list[Span]:
    """Seconds at which pieces of a video begin and end, none longer than `segment_sec`.

    A border in the middle of speech moves back to the middle of the silence before it, if that
    leaves at least half of the length.

    Args:
      duration_sec: duration of the video.
      segment_sec: length of a piece.
      speech: when somebody speaks, in order.
    """
    pieces = []
    start = 0.0
    while duration_sec - start > segment_sec:
        border = _border(start, start + segment_sec, speech)
        pieces.append((start, border))
        start = border
    if duration_sec - start >= SHORTEST_SEC:
        pieces.append((start, duration_sec))
    return pieces


def _border(start: float, latest: float, speech: Sequence[Span]) -> float:
    silent_from = 0.0
    for begins, ends in speech:
        if begins < latest < ends:
            silence = max((silent_from + begins) / 2, silent_from)
            return silence if silence >= (start + latest) / 2 else latest
        silent_from = ends
    return latest


def speech(path: str | Path) -> list[Span]:
    """When somebody speaks in a file, in seconds from its first picture, by Silero's network.

    None is found in a file without sound, which is no clip either.

    Raises:
      UserError: the packages are not installed.
    """
    network = onnx.session(VOICE_ACTIVITY, "data/silero_vad.onnx", EXTRA)
    try:
        waveform = media.read_audio(path, _SAMPLING_RATE)
    except UserError:
        return []
    return spans(_probabilities(network, waveform), _WINDOW / _SAMPLING_RATE)


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
    state, rate = np.zeros((2, 1, 128), np.float32), np.array(_SAMPLING_RATE, np.int64)
    found = []
    for start in range(0, len(padded) - _BEFORE, _WINDOW):
        heard = padded[None, start : start + _BEFORE + _WINDOW]
        probability, state = network.run(None, {"input": heard, "state": state, "sr": rate})
        found.append(float(probability[0, 0]))
    return found
