"""When somebody speaks in a sound, by the network inside the package `silero-vad` (MIT).

The network is a file that onnxruntime runs. The package itself is not imported, for it asks for
PyTorch.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from vssflow_jax.utils import onnx
from vssflow_jax.utils.errors import UserError

PACKAGE = "silero_vad"
EXTRA = "speech"
# Without what it asks for: setup.py says why.
INSTALL = f"pip install -e '.[{EXTRA}]' && pip install --no-deps silero-vad==6.2.3"
SAMPLING_RATE = 16_000

_WINDOW, _BEFORE = 512, 64  # samples that the network hears at a time, and those before them
# The package's own settings: probabilities, and samples.
_BEGINS, _ENDS = 0.5, 0.35
_SHORTEST_SPEECH, _SHORTEST_SILENCE, _MARGIN = 4_000, 1_600, 480

Span = tuple[float, float]


def find_speech(waveform: np.ndarray) -> list[Span]:
    """When somebody speaks in a sound, in seconds; none where nobody does.

    Args:
      waveform: float [n] at `SAMPLING_RATE`, full scale 1; n may be 0.

    Raises:
      UserError: the packages are not installed.
    """
    check_installed()
    network = onnx.session(PACKAGE, "data/silero_vad.onnx", EXTRA)
    return spans(_probabilities(network, waveform), len(waveform))


def check_installed() -> None:
    """Checks that the packages are installed.

    Raises:
      UserError: one of them is not; the message says how to install them.
    """
    for package in (PACKAGE, "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"to find speech, the package {package} is missing: run  {INSTALL}")


def spans(probabilities: Sequence[float], num_samples: int) -> list[Span]:
    """Stretches of speech in a sound, in seconds, by the probability of speech in each window.

    They are those that the package's own `get_speech_timestamps` gives by its default settings.
    Speech begins with a window of at least 0.5. It ends with the first one under 0.35, if 0.1 s
    later another one is under it, and none between them is of 0.5. What does not last for more than
    0.25 s is left out, and the rest made longer by 0.03 s at either end, within the sound.

    Args:
      probabilities: probabilities of speech, of each window.
      num_samples: length of the sound.
    """
    found: list[tuple[int, int]] = []
    begins: int | None = None
    quiet_from: int | None = None
    starts = range(0, num_samples, _WINDOW)
    for start, probability in zip(starts, probabilities, strict=True):
        if probability >= _BEGINS:
            begins = start if begins is None else begins
            quiet_from = None
        elif probability < _ENDS and begins is not None:
            quiet_from = start if quiet_from is None else quiet_from
            if start - quiet_from >= _SHORTEST_SILENCE:
                found.append((begins, quiet_from))
                begins = quiet_from = None
    if begins is not None:
        found.append((begins, num_samples))
    return [
        (
            max(begins - _MARGIN, 0) / SAMPLING_RATE,
            min(ends + _MARGIN, num_samples) / SAMPLING_RATE,
        )
        for begins, ends in found
        if ends - begins > _SHORTEST_SPEECH
    ]


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
