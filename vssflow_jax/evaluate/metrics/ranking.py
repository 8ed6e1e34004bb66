"""Which clips of a task are the worst and the best, and by which score that is said."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from vssflow_jax.evaluate.metrics.registry import label
from vssflow_jax.input_pipeline.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The order of some clips of one task.

    Attributes:
      score: name of the score that they are ordered by; "" if they have none.
      order: their indices, the worst first; equal ones stay as they came.
      rest: indices of those that do not have it.
    """

    score: str
    order: list[int]
    rest: list[int]


def rank(task: str, scores: Sequence[Mapping[str, float]]) -> Ranking:
    """Order clips of a task by their main score.

    Args:
      task: a key of `TASKS`.
      scores: metric -> value, for each clip.
    """
    score = main_score(task, scores)
    if not score:
        return Ranking("", [], [*range(len(scores))])
    having = [i for i, clip in enumerate(scores) if math.isfinite(clip.get(score, math.nan))]
    sign = 1 if label(score).better == "higher" else -1
    return Ranking(
        score=score,
        order=sorted(having, key=lambda index: sign * scores[index][score]),
        rest=[index for index in range(len(scores)) if index not in having],
    )


def main_score(task: str, scores: Sequence[Mapping[str, float]]) -> str:
    """Name of the first of the task's main metrics that any clip has; "" if there is none."""
    names = {name for clip in scores for name, value in clip.items() if math.isfinite(value)}
    return next((main for main in TASKS[task].main_metrics if main in names), "")


def extremes(task: str, scores: Sequence[Mapping[str, float]], count: int) -> list[int]:
    """Indices of `count` clips of a task at most: as many of the worst as of the best, or one more.

    They come worst first; those without a score are last, and are taken only where there is room.
    """
    ranking = rank(task, scores)
    worst = count - count // 2
    surplus = max(len(ranking.order) - count, 0)
    ends = ranking.order[:worst] + ranking.order[worst + surplus :]
    return [*ends, *ranking.rest][:count]
