"""The networks that listen to a sound alone.

Letters: n samples, t frames, m mel bands, w windows, a axes.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.evaluate.networks import panns, vggish
from vssflow_jax.evaluate.networks.judge import Example, Judge, at_least, row_by_row
from vssflow_jax.evaluate.networks.sounds import rate_of, read_sound
from vssflow_jax.evaluate.networks.store import Made
from vssflow_jax.networks import audiobox, nisqa, passt, utmos, wav2vec
from vssflow_jax.networks.clap import mel as clap
from vssflow_jax.networks.spread import Spread
from vssflow_jax.networks.whisper import published as whisper
from vssflow_jax.networks.whisper.mel import SAMPLES as WHISPER_SAMPLES
from vssflow_jax.networks.whisper.transcribe import Transcriber
from vssflow_jax.utils.errors import UserError

# Multiples of what utterances are padded to, in samples and in segments of 40 ms.
_UTMOS_STEP, _NISQA_STEP = utmos.SAMPLING_RATE, 50


class Panns(Judge):
    """Cnn14: what a sound is of."""

    kind, title = "panns", "PANNs"
    source = "Cnn14_16k_mAP=0.438.pth from Zenodo 3987831"

    def check(self) -> None:
        """See `Judge`."""
        panns.load(self.weights)

    def example(self, path: Path, max_sec: float) -> Example:
        """A waveform [n]."""
        return at_least(panns.MIN_SAMPLES, "PANNs", read_sound(path, max_sec=max_sec, centre=True))

    def features(self, examples: Sequence[Example]) -> list[Made]:
        """A sound of each length by itself, for padding is heard."""
        made = _by_shape(_raw(panns.load, panns.forward, self.weights, 8), examples)
        return [{"features": features, "logits": logits} for features, logits in made]


class Vggish(Judge):
    """VGGish: what each 0.96 s of a sound are of."""

    kind, title = "vggish", "VGGish"
    source = "vggish-10086976.pth from harritaylor/torchvggish v0.1"

    def check(self) -> None:
        """See `Judge`."""
        vggish.load(self.weights)

    def example(self, path: Path, max_sec: float) -> Example:
        """Log-mels [w, t, m]."""
        waveform = read_sound(path, max_sec=max_sec, centre=True)
        return vggish.log_mel_windows(at_least(vggish.MIN_SAMPLES, "VGGish", waveform))

    def features(self, examples: Sequence[Example]) -> list[Made]:
        apply = _raw(vggish.load, vggish.forward, self.weights, 64)
        return [{"features": rows} for rows in row_by_row(apply, examples)]


class Passt(Judge):
    """PaSST: what a sound is of."""

    kind, title = "passt", "PaSST"
    source = "passt-s-f128-p16-s10-ap.476-swa.pt from kkoutini/PaSST"

    def example(self, path: Path, max_sec: float) -> Example:
        """A log-mel [t, m]."""
        waveform = read_sound(path, passt.SAMPLING_RATE, max_sec, centre=True)
        return passt.log_mels(waveform[None])[0]

    def features(self, examples: Sequence[Example]) -> list[Made]:
        made = Spread.load("passt", self.weights)(np.stack(examples))
        return [{"logits": x, "features": y} for x, y in zip(*made, strict=True)]


class Clap(Judge):
    """LAION-CLAP: what a sound is of, in the space of texts."""

    kind, title = "clap", "LAION-CLAP"
    source = "music_speech_audioset_epoch_15_esc_89.98.pt from lukewys/laion_clap"

    def example(self, path: Path, max_sec: float) -> Example:
        """A log-mel [t, m]."""
        waveform = at_least(1, "CLAP", read_sound(path, clap.SAMPLING_RATE, max_sec, centre=True))
        return clap.log_mels(waveform[None])[0]

    def features(self, examples: Sequence[Example]) -> list[Made]:
        made = Spread.load("clap_sound", self.weights)(np.stack(examples))
        return [{"features": row} for row in made]


class Utmos(Judge):
    """UTMOS: how natural speech sounds."""

    kind, title = "utmos", "UTMOS"
    source = "utmos22_strong_step7459_v1.pt from tarepan/SpeechMOS v1.0.0"

    def example(self, path: Path, max_sec: float) -> Example:
        """A waveform [n], as it is."""
        return at_least(wav2vec.LEAST_SAMPLES, "UTMOS", read_sound(path, max_sec=max_sec))

    def features(self, examples: Sequence[Example]) -> list[Made]:
        samples = [len(example) for example in examples]
        padded = [_up_to(_UTMOS_STEP, n) for n in samples]
        made = _by_padded_length(Spread.load("utmos", self.weights), examples, padded, samples)
        return [{"score": score} for score in made]


class Nisqa(Judge):
    """NISQA: how good speech sounds, and what is amiss."""

    kind, title = "nisqa", "NISQA"
    source = "nisqa.tar from gabrielmittag/NISQA"

    def example(self, path: Path, max_sec: float) -> Example:
        """A log-mel [t, m], made at the rate that the file has."""
        rate = min(max(rate_of(path), nisqa.LOWEST_RATE), nisqa.HIGHEST_RATE)
        waveform = read_sound(path, rate, max_sec)
        if len(waveform) >= nisqa.least_samples(rate, nisqa.MOST_SEGMENTS + 1):
            raise UserError(f"{path}: longer than the 52 s that NISQA hears; cut it")
        return nisqa.log_mel(at_least(nisqa.least_samples(rate), "NISQA", waveform), rate)

    def features(self, examples: Sequence[Example]) -> list[Made]:
        segments = [nisqa.segments_of(len(example)) for example in examples]
        padded = [nisqa.frames_of(_up_to(_NISQA_STEP, n)) for n in segments]
        made = _by_padded_length(Spread.load("nisqa", self.weights), examples, padded, segments)
        return [dict(zip(nisqa.SCORES, scores, strict=True)) for scores in made]


class Audiobox(Judge):
    """Audiobox-Aesthetics: how listeners would rate any sound."""

    kind, title = "audiobox", "Audiobox-Aesthetics"
    source = "model.safetensors with config.json, or checkpoint.pt, of facebook/audiobox-aesthetics"

    def example(self, path: Path, max_sec: float) -> Example:
        """A waveform [n], as it is."""
        return at_least(1, "Audiobox-Aesthetics", read_sound(path, max_sec=max_sec))

    def features(self, examples: Sequence[Example]) -> list[Made]:
        """A score of each axis, by its name in lower case."""
        cut = [audiobox.windows(example) for example in examples]
        rows, samples = (np.concatenate(part) for part in zip(*cut, strict=True))
        scores = Spread.load("audiobox", self.weights)(rows, samples)  # [w, a]
        ends = np.cumsum([len(own) for own, _ in cut])
        means = (
            audiobox.mean_of_windows(found, counts)
            for found, (_, counts) in zip(np.split(scores, ends[:-1]), cut, strict=True)
        )
        names = [axis.lower() for axis in audiobox.AXES]
        return [dict(zip(names, mean.astype(np.float32), strict=True)) for mean in means]


class Whisper(Judge):
    """Whisper: what is said."""

    kind, title = "whisper", "Whisper"
    source = "a folder openai/whisper-* or Systran/faster-whisper-* from Hugging Face"

    def check(self) -> None:
        """See `Judge`."""
        whisper.load(self.weights)

    def example(self, path: Path, max_sec: float) -> Example:
        """A waveform [n], as it is."""
        waveform = read_sound(path, max_sec=max_sec)
        if len(waveform) > WHISPER_SAMPLES:
            raise UserError(f"{path}: longer than the 30 s that Whisper hears; cut it")
        return waveform

    def features(self, examples: Sequence[Example]) -> list[Made]:
        found = _transcriber(self.weights)(examples)
        return [
            {
                "text": np.frombuffer(x.text.encode(), np.uint8),
                "log_probability": np.float32(x.log_probability),
            }
            for x in found
        ]


def _by_shape(apply: Spread, examples: Sequence[Example]) -> list[tuple[NDArray[Any], ...]]:
    """What a network makes of examples, those of one shape together."""
    found: dict[int, tuple[NDArray[Any], ...]] = {}
    for shape in sorted({example.shape for example in examples}):
        chosen = [number for number, example in enumerate(examples) if example.shape == shape]
        made = apply(np.stack([examples[number] for number in chosen]))
        found |= zip(chosen, zip(*made, strict=True), strict=True)
    return [found[number] for number in range(len(examples))]


def _by_padded_length(
    apply: Spread, examples: Sequence[Example], padded: Sequence[int], own: Sequence[int]
) -> list[NDArray[np.float32]]:
    """What a network makes of examples [n, ...], those that are padded to one length together.

    Args:
      apply: of rows, and of how much of each is its own.
      examples: which zeros follow in the rows.
      padded: length that each is padded to.
      own: how much each has, as the network counts it.
    """
    found: dict[int, NDArray[np.float32]] = {}
    for length in sorted(set(padded)):
        chosen = [number for number, each in enumerate(padded) if each == length]
        rows = np.zeros((len(chosen), length, *examples[chosen[0]].shape[1:]), np.float32)
        for row, number in zip(rows, chosen, strict=True):
            row[: len(examples[number])] = examples[number]
        made = apply(rows, np.array([own[number] for number in chosen], np.int32))
        found |= zip(chosen, made, strict=True)
    return [found[number] for number in range(len(examples))]


def _up_to(step: int, count: int) -> int:
    """The next multiple of a step."""
    return -(-count // step) * step


@functools.cache
def _raw(
    read: Callable[[Path], Any], forward: Callable[..., Any], weights: Path, rows: int
) -> Spread:
    return Spread(forward, read(weights), rows)


@functools.cache
def _transcriber(weights: Path) -> Transcriber:
    return Transcriber(whisper.load(weights))


def forget() -> None:
    """Let go of the networks that are held here."""
    for held in (_raw, _transcriber):
        held.cache_clear()
