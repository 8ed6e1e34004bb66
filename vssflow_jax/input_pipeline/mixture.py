"""In which shares the tasks are drawn, and how joint clips are made."""

import dataclasses
from collections.abc import Mapping

import ml_collections

from vssflow_jax.input_pipeline import joint
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class Mixture:
    """What batches are drawn from: the section `data.mixture` of a config.

    Attributes:
      weights: share of each task, which need not sum to 1; a task that is not there has none.
      synthetic_ratio: share of the joint clips that are made of a sound and a speech.
      joint_modes: how those are made, some of `joint.MODES`.
      speech_sources: corpora that clips with speech alone are taken from; all, if empty.
    """

    weights: Mapping[str, float]
    synthetic_ratio: float
    joint_modes: tuple[joint.Mode, ...]
    speech_sources: tuple[str, ...]

    @classmethod
    def from_config(cls, section: ml_collections.ConfigDict) -> "Mixture":
        """The mixture of a config's section.

        Raises:
          UserError: a weight below 0, all of them 0, a ratio outside [0, 1], or an unknown mode.
        """
        return cls(
            weights=section.weights.to_dict(),
            synthetic_ratio=section.synthetic_ratio,
            joint_modes=tuple(section.joint_modes),
            speech_sources=tuple(section.speech_sources),
        )

    def __post_init__(self) -> None:
        """Raises UserError for a mixture that cannot be drawn from."""
        if unknown := set(self.weights) - set(TASKS):
            raise UserError(
                f"data.mixture.weights has '{min(unknown)}'; the tasks are {', '.join(TASKS)}"
            )
        if min(self.weights.values()) < 0 or sum(self.weights.values()) == 0:
            raise UserError(
                f"data.mixture.weights are {dict(self.weights)}; give at least one above 0, none "
                "below"
            )
        if not 0 <= self.synthetic_ratio <= 1:
            raise UserError(
                f"data.mixture.synthetic_ratio is {self.synthetic_ratio}; choose from 0 to 1"
            )
        if set(self.joint_modes) - set(joint.MODES) or not self.joint_modes:
            raise UserError(
                f"data.mixture.joint_modes are {self.joint_modes}; choose from {joint.MODES}"
            )

    @property
    def tasks(self) -> list[str]:
        """Those that are drawn, in the order of their seeds."""
        drawn = [task for task, weight in self.weights.items() if weight > 0]
        return sorted(drawn, key=lambda task: TASKS[task].seed)

    @property
    def synthesises(self) -> bool:
        """Whether any joint clip is made of two."""
        return self.weights.get("joint", 0) > 0 and self.synthetic_ratio > 0
