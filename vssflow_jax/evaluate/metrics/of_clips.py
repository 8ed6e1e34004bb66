"""What is measured of each clip by itself.

A measure gives two numbers of a clip: what it adds to a sum, and to the sum that it is divided by.
The score over clips is the ratio of the sums: errors by words, matches by onsets, or, with a 1
below, a mean. So scores and their intervals need no more than these two numbers a clip.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from vssflow_jax.audio import mel
from vssflow_jax.evaluate.metrics import dnsmos, wer
from vssflow_jax.evaluate.metrics.mcd import Mcd, mel_cepstral_distortion
from vssflow_jax.evaluate.metrics.mel_distance import mel_distance
from vssflow_jax.evaluate.metrics.mel_statistics import mel_statistics
from vssflow_jax.evaluate.metrics.onsets import count_onsets, detect_onsets
from vssflow_jax.features import voices
from vssflow_jax.input_pipeline.dataset import TASKS
from vssflow_jax.utils.errors import UserError

VERSIONS: Final = ("generated", "ground_truth", "codec", "shuffled")
"""The sounds of a clip: generated; true; the true one through codec and vocoder, which is the best
that the model could do; and generated from another clip's conditions, without looking."""

EXTRA_VERSIONS: Final = ("codec", "shuffled")

SPOKEN: Final = ("visualtts", "tts", "joint")


@dataclasses.dataclass(frozen=True)
class Told:
    """What is known of a clip, for a measure to hold its sounds against.

    Attributes:
      task: of the clip.
      transcript: what is said, or "".
      event_times_sec: when the picture shows an event that sounds [k].
      normalisation: of texts before words are compared.
    """

    task: str
    transcript: str
    event_times_sec: np.ndarray
    normalisation: wer.Normalisation


class Heard:
    """One sound of a clip, and what is found in it, each once.

    Args:
      waveform: float32 [n] at 16 kHz.
      log_mel: of it [n, m].
    """

    def __init__(self, waveform: np.ndarray, log_mel: np.ndarray):
        self.waveform, self.log_mel = waveform, log_mel

    @functools.cached_property
    def recognised(self) -> str:
        """The words that are read in it."""
        return wer.transcribe(self.waveform)

    @functools.cached_property
    def onsets_sec(self) -> np.ndarray:
        """Times of its onsets [k]."""
        return detect_onsets(self.waveform, mel.SAMPLING_RATE)

    @functools.cached_property
    def voice(self) -> np.ndarray:
        """Of the speaker [256]; no numbers if none is heard."""
        return voices.embed(self.waveform, mel.SAMPLING_RATE)

    @functools.cached_property
    def dnsmos(self) -> Mapping[str, float]:
        """Opinions that a network has of it."""
        return dnsmos.dnsmos(self.waveform, mel.SAMPLING_RATE)


Fraction = tuple[float, float]  # what is added above and below
Function = Callable[[Heard, Heard, Told], Fraction]  # of a sound, the true one, and what is known


@dataclasses.dataclass(frozen=True)
class Measure:
    """One number that a clip gets.

    Attributes:
      tasks: of clips that have it.
      function: may raise UserError where a clip is not fit for it.
      package: that it needs, by the name to import; none, if "".
      extra: that installs it.
    """

    tasks: tuple[str, ...]
    function: Function
    package: str = ""
    extra: str = ""

    @property
    def absence(self) -> str:
        """How to get it, if its package is not there; else ""."""
        if not self.package or importlib.util.find_spec(self.package):
            return ""
        own = self.package == voices.PACKAGE
        command = voices.INSTALL if own else f"pip install -e '.[{self.extra}]'"
        return f"the package {self.package} is not installed: {command}"


def _mean(value: float) -> Fraction:
    return float(value), 1.0


def _wer(sound: Heard, truth: Heard, told: Told) -> Fraction:
    del truth
    errors, words = wer.word_errors([told.transcript], [sound.recognised], told.normalisation)
    return float(errors[0]), float(words[0])


def _wer_utterance(sound: Heard, truth: Heard, told: Told) -> Fraction:
    errors, words = _wer(sound, truth, told)
    return _mean(errors / max(words, 1))


def _onset_f1(sound: Heard, truth: Heard, told: Told) -> Fraction:
    del truth
    counts = count_onsets(told.event_times_sec, sound.onsets_sec)
    return 2 * counts.matches, counts.references + counts.estimates


def _onset_recall(sound: Heard, truth: Heard, told: Told) -> Fraction:
    # Speech has onsets too: on joint clips only the events that are found can be counted.
    del truth
    counts = count_onsets(told.event_times_sec, sound.onsets_sec)
    return counts.matches, counts.references


def _mel_distance(sound: Heard, truth: Heard, told: Told) -> Fraction:
    del told
    return _mean(mel_distance(sound.log_mel, truth.log_mel))


def _mcd(kind: str) -> Function:
    def measure(sound: Heard, truth: Heard, told: Told) -> Fraction:
        del told
        return _mean(getattr(_distortions(sound, truth), kind))

    return measure


@functools.lru_cache(maxsize=1)
def _distortions(sound: Heard, truth: Heard) -> Mcd:
    """All three at once, since they share their costly half."""
    return mel_cepstral_distortion(truth.waveform, sound.waveform, mel.SAMPLING_RATE)


def _speaker_similarity(sound: Heard, truth: Heard, told: Told) -> Fraction:
    del told
    if not len(truth.voice):
        raise UserError("speaker similarity: no voice is heard in the true sound")
    # A sound without a voice is like nobody's.
    return _mean(sound.voice @ truth.voice if len(sound.voice) else 0.0)


def _dnsmos(name: str) -> Function:
    def measure(sound: Heard, truth: Heard, told: Told) -> Fraction:
        del truth, told
        return _mean(sound.dnsmos[name])

    return measure


_RECOGNISER = ("pocketsphinx", "demo")
_WORLD = ("pyworld", "metrics")

MEASURES: Final[Mapping[str, Measure]] = {
    "wer": Measure(("visualtts",), _wer, *_RECOGNISER),
    "wer_utterance": Measure(("visualtts",), _wer_utterance, *_RECOGNISER),
    "wer_tts": Measure(("tts",), _wer, *_RECOGNISER),
    "wer_joint": Measure(("joint",), _wer, *_RECOGNISER),
    "onset_f1": Measure(("v2s",), _onset_f1),
    "onset_recall_joint": Measure(("joint",), _onset_recall),
    **{f"mel_distance_db_{task}": Measure((task,), _mel_distance) for task in TASKS},
    "mcd": Measure(("visualtts", "tts"), _mcd("plain"), *_WORLD),
    "mcd_dtw": Measure(("visualtts", "tts"), _mcd("dtw"), *_WORLD),
    "mcd_dtw_sl": Measure(("visualtts", "tts"), _mcd("dtw_sl"), *_WORLD),
    "speaker_similarity": Measure(SPOKEN, _speaker_similarity, voices.PACKAGE),
    **{
        f"dnsmos_{name}": Measure(SPOKEN, _dnsmos(name), dnsmos.PACKAGE, dnsmos.EXTRA)
        for name in dnsmos.NAMES
    },
}
"""Name of a score -> how it is measured."""

NEEDS_WORDS: Final = ("wer", "wer_utterance", "wer_tts", "wer_joint")
NEEDS_EVENTS: Final = ("onset_f1", "onset_recall_joint")


def applies(name: str, told: Told) -> bool:
    """Whether a clip can have a score at all."""
    if told.task not in MEASURES[name].tasks:
        return False
    if name in NEEDS_WORDS:
        return bool(told.transcript)
    return name not in NEEDS_EVENTS or len(told.event_times_sec) > 0


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was found of one clip.

    Attributes:
      scores: version -> score -> what it adds above and below.
      recognised: version -> the words that were read, where they were.
      mel_statistics: version -> mean and deviation of each mel band [2 m].
      problems: score -> why it could not be measured.
    """

    scores: dict[str, dict[str, Fraction]]
    recognised: dict[str, str]
    mel_statistics: dict[str, list[float]]
    problems: dict[str, str]


def measure(
    told: Told, sounds: Mapping[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str]
) -> Measured:
    """Measure a clip.

    Args:
      told: what is known of it.
      sounds: version -> waveform [n] and log-mel [n, m]; the true one is among them.
      names: of scores.
    """
    heard = {version: Heard(*sound) for version, sound in sounds.items()}
    scores: dict[str, dict[str, Fraction]] = {version: {} for version in heard}
    problems = {}
    for name in names:
        if not applies(name, told):
            continue
        for version, sound in heard.items():
            try:
                scores[version][name] = MEASURES[name].function(sound, heard["ground_truth"], told)
            except UserError as error:
                problems[name] = f"{version}: {error}"
    return Measured(
        scores=scores,
        recognised={
            version: sound.recognised
            for version, sound in heard.items()
            if "recognised" in vars(sound)
        },
        mel_statistics={
            version: mel_statistics(sound.log_mel).tolist() for version, sound in heard.items()
        },
        problems=problems,
    )
