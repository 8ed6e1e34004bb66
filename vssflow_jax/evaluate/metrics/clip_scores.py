"""The scores of a clip: every metric that it can have, of every version of its sound."""

import dataclasses
from collections.abc import Mapping

from vssflow_jax.evaluate.metrics.of_clips import Fraction, Prediction, Reference
from vssflow_jax.evaluate.metrics.of_sets import mel_statistics
from vssflow_jax.evaluate.metrics.registry import Metric
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError


def score_clip(
    row: Row,
    reference: Reference,
    sounds: Mapping[str, Prediction],
    metrics: Mapping[str, Metric],
) -> Row:
    """Measure a clip, and add what is found to its row.

    Args:
      row: of the clip.
      reference: what is known of it.
      sounds: version -> sound; the true one is among them.
      metrics: metrics of clips, by name.
    """
    scores: dict[str, dict[str, Fraction]] = {version: {} for version in sounds}
    problems = dict(row.problems)
    for name, metric in metrics.items():
        if metric.of_clip is None or not metric.applies(reference):
            continue
        for version, sound in sounds.items():
            try:
                scores[version][name] = metric.of_clip(sound, sounds["ground_truth"], reference)
            except UserError as error:
                problems[name] = f"{version}: {error}"
    return dataclasses.replace(
        row,
        scores=scores,
        recognised={
            version: sound.recognised
            for version, sound in sounds.items()
            if "recognised" in vars(sound)
        },
        mel_statistics={
            version: mel_statistics(sound.log_mel).tolist() for version, sound in sounds.items()
        },
        problems=problems,
    )
