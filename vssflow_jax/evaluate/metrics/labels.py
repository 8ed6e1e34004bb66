"""How each metric is called, written and judged on the pages of evaluations."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Final, Literal

ABSENT: Final = "-"
_MINUS: Final = "\N{MINUS SIGN}"
_TASKS: Final = ("visualtts", "tts", "v2s", "joint")
"""A metric's name may end in one, and then is of such clips only. In the order to show."""
_ARROWS: Final = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}", "": ""}

VERSIONS: Final[Mapping[str, tuple[str, str]]] = {
    "generated": ("generated", "the model's sound for each clip."),
    "ground_truth": (
        "ground truth",
        "the original sound, measured the same way: the best that can be hoped for.",
    ),
    "codec": (
        "codec",
        "the original sound encoded, decoded and turned back into a waveform: what the codec and "
        "vocoder alone cost.",
    ),
    "shuffled": (
        "shuffled",
        "the same model given another clip's conditions: what it scores without looking at the "
        "right one.",
    ),
}
"""Version -> heading of its column, and what it means. In the order to show."""


@dataclasses.dataclass(frozen=True)
class Label:
    """How a metric is called, written and judged.

    Attributes:
      name: what it is called.
      better: which values are; "" if nobody can say.
      explanation: what it is; "" if the name says it.
      unit: of the numbers shown; "" for a bare number.
      scale: from the value that is stored to that which is shown.
      decimals: shown; None for four significant digits.
      task: whose clips alone it is of; "" for all that can have it.
    """

    name: str
    better: Literal["lower", "higher", ""] = ""
    explanation: str = ""
    unit: str = ""
    scale: float = 1.0
    decimals: int | None = None
    task: str = ""

    @property
    def title(self) -> str:
        """The name, and the clips that it is of."""
        return f"{self.name}, {self.task} clips" if self.task else self.name

    @property
    def arrow(self) -> str:
        """Up where higher values are better, down where lower ones are; "" if nobody can say."""
        return _ARROWS[self.better]

    @property
    def as_stored(self) -> "Label":
        """For numbers on the scale that they are stored in, to as many significant digits."""
        if self.decimals is None or self.scale == 1:
            return self
        decimals = self.decimals + round(math.log10(self.scale))
        return dataclasses.replace(self, unit="", scale=1.0, decimals=decimals)

    def number(self, value: float | None, *, sign: bool = False) -> str:
        """`value` as people read it, without unit; "-" for one that is missing or not finite.

        Args:
          value: as stored.
          sign: whether a plus is written too, as for differences.
        """
        if value is None or not math.isfinite(value):
            return ABSENT
        digits = ".4g" if self.decimals is None else f".{self.decimals}f"
        # "z": what is rounded to zero has no sign of its own.
        return format(value * self.scale, f"{'+' if sign else ''}z{digits}").replace("-", _MINUS)

    def text(self, value: float | None) -> str:
        """`value` as people read it, with its unit."""
        number = self.number(value)
        return (
            f"{number}\N{NO-BREAK SPACE}{self.unit}" if self.unit and number != ABSENT else number
        )

    def interval(self, low: float | None, high: float | None, *, sign: bool = False) -> str:
        """An interval without unit; "" where none is known."""
        if low is None or high is None or not math.isfinite(low + high):
            return ""
        return f"[{self.number(low, sign=sign)}, {self.number(high, sign=sign)}]"

    def is_better(self, difference: float) -> bool | None:
        """Whether a score that differs by `difference` is better; None if equal or unknown."""
        if not self.better or not difference:
            return None
        return (difference > 0) == (self.better == "higher")


def _opinion(what: str, predictor: str) -> Label:
    return Label(
        name=f"{predictor}, {what}",
        better="higher",
        explanation=f"{what} on a scale of 1 to 5, as a network predicts listeners to rate it.",
        decimals=2,
    )


def _distance(features: str, explanation: str) -> Label:
    return Label(
        name=f"Fréchet distance, {features}", better="lower", explanation=explanation, decimals=2
    )


def _divergence(network: str) -> Label:
    return Label(
        name=f"KL divergence, {network}",
        better="lower",
        explanation=f"of the classes that {network} hears from those in the original sound.",
        decimals=2,
    )


def _inception(network: str) -> Label:
    return Label(
        name=f"Inception score, {network}",
        better="higher",
        explanation=f"how sure {network} is of each sound's class, and how many classes there are.",
        decimals=2,
    )


_LABELS: Final = {
    "wer": Label(
        name="Word error rate",
        better="lower",
        explanation="share of the transcripts' words that a speech recogniser gets wrong.",
        unit="%",
        scale=100.0,
        decimals=1,
    ),
    "wer_utterance": Label(
        name="Word error rate, mean of utterances",
        better="lower",
        explanation="each utterance counts the same, however long it is.",
        unit="%",
        scale=100.0,
        decimals=1,
    ),
    "speaker_similarity": Label(
        name="Speaker similarity",
        better="higher",
        explanation="cosine between the voice and that of the original sound; 1 is the same.",
        decimals=3,
    ),
    "mcd": Label(
        name="Mel-cepstral distortion",
        better="lower",
        explanation="from the original sound, frame by frame.",
        unit="dB",
        decimals=2,
    ),
    "mcd_dtw": Label(
        name="Mel-cepstral distortion, DTW",
        better="lower",
        explanation="after both sounds are aligned by dynamic time warping.",
        unit="dB",
        decimals=2,
    ),
    "mcd_dtw_sl": Label(
        name="Mel-cepstral distortion, DTW-SL",
        better="lower",
        explanation="aligned, and times the ratio of the lengths.",
        unit="dB",
        decimals=2,
    ),
    "lse_c": Label(
        name="Lip-sync confidence (LSE-C)",
        better="higher",
        explanation="of SyncNet in the offset that it finds between lips and sound.",
        decimals=2,
    ),
    "lse_d": Label(
        name="Lip-sync distance (LSE-D)",
        better="lower",
        explanation="between SyncNet's features of lips and sound.",
        decimals=2,
    ),
    "utmos": _opinion("naturalness", "UTMOS"),
    "dnsmos_ovrl": _opinion("overall quality", "DNSMOS"),
    "dnsmos_sig": _opinion("speech quality", "DNSMOS"),
    "dnsmos_bak": _opinion("quietness of the background", "DNSMOS"),
    "dnsmos_p808": _opinion("overall quality", "DNSMOS P.808"),
    "onset_f1": Label(
        name="Onset F1",
        better="higher",
        explanation="how well the onsets heard coincide with the events seen; 1 is perfect.",
        decimals=2,
    ),
    "onset_recall": Label(
        name="Onset recall",
        better="higher",
        explanation="share of the events seen that are heard; speech has onsets of its own.",
        decimals=2,
    ),
    "desync": Label(
        name="DeSync",
        better="lower",
        explanation="offset between picture and sound that Synchformer finds.",
        unit="s",
        decimals=3,
    ),
    "ib_score": Label(
        name="ImageBind score",
        better="higher",
        explanation="cosine between ImageBind's features of picture and sound.",
        decimals=3,
    ),
    "fad": _distance("features not stated", ""),
    "fd_vggish": _distance("VGGish", "of features from those of the original sounds."),
    "fd_panns": _distance("PANNs", "of features from those of the original sounds."),
    "fd_passt": _distance("PaSST", "of features from those of the original sounds."),
    "fd_mel_statistics": _distance(
        "mel statistics",
        "of mean and deviation of each mel band; not comparable with any network's.",
    ),
    "kl_panns": _divergence("PANNs"),
    "kl_passt": _divergence("PaSST"),
    "is_panns": _inception("PANNs"),
    "is_passt": _inception("PaSST"),
    "mel_distance_db": Label(
        name="Mel distance",
        better="lower",
        explanation="mean difference of the mel spectrogram from that of the original sound.",
        unit="dB",
        decimals=1,
    ),
}
"""Metric without its task -> label, in the order to show."""


def label(metric: str) -> Label:
    """Of a metric, with the task that it may end in; one not known here goes by its own name."""
    base, task = split(metric)
    known = _LABELS.get(base, Label(base.replace("_", " ").capitalize()))
    return dataclasses.replace(known, task=task)


def in_order(metrics: Iterable[str]) -> list[str]:
    """Metrics as they are to be shown; those not known here come last."""
    bases, tasks = [*_LABELS], ["", *_TASKS]

    def place(metric: str) -> tuple[int, int]:
        base, task = split(metric)
        return bases.index(base) if base in _LABELS else len(bases), tasks.index(task)

    return sorted(metrics, key=place)


def split(metric: str) -> tuple[str, str]:
    """Split "wer_joint" into ("wer", "joint"); the task is "" when none is named."""
    for task in _TASKS:
        if metric.endswith(f"_{task}"):
            return metric.removesuffix(f"_{task}"), task
    return metric, ""
