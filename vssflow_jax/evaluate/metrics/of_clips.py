"""What is measured of each clip by itself: functions of a sound, the true one, and what is known.

A function gives two numbers of a clip: what it adds to a sum, and to the sum that it is divided by.
The score over clips is the ratio of the sums: errors by words, matches by onsets, or, with a 1
below, a mean. So scores and their intervals need no more than these two numbers a clip.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from vssflow_jax.audio import mel
from vssflow_jax.clip import to_float
from vssflow_jax.evaluate.metrics import wer
from vssflow_jax.evaluate.metrics.mcd import Mcd, mel_cepstral_distortion
from vssflow_jax.evaluate.metrics.onsets import count_matches, detect_onsets, matched
from vssflow_jax.features import voice_activity, voices
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

_DB_PER_NEPER: Final = 20 / np.log(10)  # a log-mel is the natural logarithm of a magnitude


@dataclasses.dataclass(frozen=True)
class Reference:
    """What is known of a clip, to hold its sounds against.

    Attributes:
      task: task of the clip.
      transcript: what is said, or "".
      event_times_sec: when the picture shows an event that sounds [k].
      caption: what is to be heard, in words, or "".
    """

    task: str
    transcript: str
    event_times_sec: np.ndarray
    caption: str = ""


class Prediction:
    """One sound of a clip, and what is found in it, each once.

    Args:
      samples: int16 [n], 16 kHz, as its file holds it.
      log_mel: log-mel of them [m, bands].
    """

    def __init__(self, samples: np.ndarray, log_mel: np.ndarray):
        self.samples, self.log_mel = samples, log_mel

    @functools.cached_property
    def waveform(self) -> np.ndarray:
        """float32 [n]."""
        return to_float(self.samples)

    @functools.cached_property
    def recognised(self) -> str:
        """The words that are read in it."""
        return wer.transcribe(self.waveform)

    @functools.cached_property
    def onsets_sec(self) -> np.ndarray:
        """Times of its onsets [k]."""
        return detect_onsets(self.waveform, mel.SAMPLING_RATE)

    @functools.cached_property
    def speech_sec(self) -> np.ndarray:
        """When somebody speaks in it: beginnings and ends [k, 2]."""
        return np.reshape(voice_activity.find_speech(self.waveform), (-1, 2))

    @functools.cached_property
    def voice(self) -> np.ndarray:
        """Of the speaker [256]; no numbers if none is heard."""
        return voices.embed(self.waveform, mel.SAMPLING_RATE)

    @functools.cached_property
    def dnsmos(self) -> Mapping[str, float]:
        """How good speech sounds, as networks of Microsoft judge it, 1 (bad) to 5.

        Windows of 9.01 s are judged, one a second, and averaged; a shorter sound is repeated.

        Source: Reddy et al. 2022 (arXiv 2110.01763) for P.835: "sig" of the speech, "bak" of the
        background, "ovrl" of both; 2021 (arXiv 2010.15258) for P.808: "p808". The package speechmos
        carries the networks.
        """
        networks = require("speechmos.dnsmos", "metrics")
        judged = networks.run(self.waveform, mel.SAMPLING_RATE)
        return {name: float(judged[f"{name}_mos"]) for name in ("sig", "bak", "ovrl", "p808")}


Fraction = tuple[float, float]  # what is added above and below
OfClip = Callable[[Prediction, Prediction, Reference], Fraction]
"""Of a sound, the true one, and what is known of the clip."""


def _mean(value: float) -> Fraction:
    return float(value), 1.0


def f1_of_onsets(sound: Prediction, truth: Prediction, reference: Reference) -> Fraction:
    """Twice the matches of onsets and events, and the number of both."""
    del truth
    events, onsets = reference.event_times_sec, sound.onsets_sec
    return 2 * count_matches(events, onsets), len(events) + len(onsets)


def recall_of_onsets(sound: Prediction, truth: Prediction, reference: Reference) -> Fraction:
    """Events that are heard, and all of them."""
    # Speech has onsets too: on joint clips only the events that are found can be counted.
    del truth
    events = reference.event_times_sec
    return count_matches(events, sound.onsets_sec), len(events)


def recall_of_onsets_by_speech(
    sound: Prediction, truth: Prediction, reference: Reference, *, spoken: bool
) -> Fraction:
    """Events that are heard, and all of them: those while the true sound speaks, or the others.

    Onsets are matched with all events at once, so that the numbers of both kinds add up to those of
    `recall_of_onsets`. Which kind an event is of does not depend on the sound that is measured.
    """
    events = reference.event_times_sec
    kind = _lie_in(events, truth.speech_sec) == spoken
    return int(matched(events, sound.onsets_sec)[kind].sum()), int(kind.sum())


def _lie_in(times: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Which times [k] lie in any of the spans [n, 2], bool [k]."""
    begins, ends = spans.T
    return ((begins <= times[:, None]) & (times[:, None] < ends)).any(axis=1)


def presence_of_speech(sound: Prediction, truth: Prediction, reference: Reference) -> Fraction:
    """1 if speech is heard in the sound, 0 if not, of which a mean is taken.

    Speech is heard where silero-vad, by its own settings, finds any: a stretch of more than 0.25 s.
    """
    del truth, reference
    return _mean(len(sound.speech_sec) > 0)


def distance_of_mels(sound: Prediction, truth: Prediction, reference: Reference) -> Fraction:
    """Mean absolute difference of the log-mels in decibels: 20 / ln(10) * mean |a - b|."""
    del reference
    return _mean(_DB_PER_NEPER * np.mean(np.abs(sound.log_mel - truth.log_mel)))


def distortion(
    sound: Prediction, truth: Prediction, reference: Reference, *, kind: str
) -> Fraction:
    """A mel-cepstral distortion: `kind` is a field of `Mcd`."""
    del reference
    return _mean(getattr(_distortions(sound, truth), kind))


@functools.lru_cache(maxsize=1)
def _distortions(sound: Prediction, truth: Prediction) -> Mcd:
    """All three at once, since they share their costly half."""
    return mel_cepstral_distortion(truth.waveform, sound.waveform, mel.SAMPLING_RATE)


def likeness_of_voices(sound: Prediction, truth: Prediction, reference: Reference) -> Fraction:
    """Cosine of the voices."""
    del reference
    if not len(truth.voice):
        raise UserError("speaker similarity: no voice is heard in the true sound")
    # A sound without a voice is like nobody's.
    return _mean(sound.voice @ truth.voice if len(sound.voice) else 0.0)


def opinion(sound: Prediction, truth: Prediction, reference: Reference, *, name: str) -> Fraction:
    """An opinion that a network has of the sound: `name` is one of `Prediction.dnsmos`."""
    del truth, reference
    return _mean(sound.dnsmos[name])
