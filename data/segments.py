"""Where long videos are cut into clips: at even lengths, but in silence where somebody speaks."""

from collections.abc import Sequence
from pathlib import Path

from vssflow_jax import media
from vssflow_jax.features import voice_activity
from vssflow_jax.features.voice_activity import Span
from vssflow_jax.utils.errors import UserError

SHORTEST_SEC = 1.0
"""What is left at the end is no clip of its own if it is shorter."""


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
    voice_activity.check_installed()
    try:
        waveform = media.read_audio(path, voice_activity.SAMPLING_RATE)
    except UserError:
        return []
    return voice_activity.find_speech(waveform)
