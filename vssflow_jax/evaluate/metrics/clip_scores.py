"""The scores of a clip: every metric that it can have, of every version of its sound."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from vssflow_jax.evaluate.metrics.of_clips import Fraction, Prediction, Reference
from vssflow_jax.evaluate.metrics.of_sets import mel_statistics
from vssflow_jax.evaluate.metrics.registry import Metric
from vssflow_jax.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class ClipScores:
    """What was found of one clip.

    Attributes:
      scores: version -> metric -> what the clip adds above and below.
      recognised: version -> the words that were read, where they were.
      mel_statistics: version -> mean and deviation of each mel band [2 m].
      problems: metric -> why it could not be measured.
    """

    scores: dict[str, dict[str, Fraction]]
    recognised: dict[str, str]
    mel_statistics: dict[str, list[float]]
    problems: dict[str, str]


def score_clip(
    reference: Reference,
    sounds: Mapping[str, tuple[np.ndarray, np.ndarray]],
    metrics: Mapping[str, Metric],
) -> ClipScores:
    """Measure a clip.

    Args:
      reference: what is known of it.
      sounds: version -> waveform [n] and log-mel [n, m]; the true one is among them.
      metrics: metrics of clips, by name.
    """
    heard = {version: Prediction(*sound) for version, sound in sounds.items()}
    scores: dict[str, dict[str, Fraction]] = {version: {} for version in heard}
    problems = {}
    for name, metric in metrics.items():
        if metric.of_clip is None or not metric.applies(reference):
            continue
        for version, sound in heard.items():
            try:
                scores[version][name] = metric.of_clip(sound, heard["ground_truth"], reference)
            except UserError as error:
                problems[name] = f"{version}: {error}"
    return ClipScores(
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
