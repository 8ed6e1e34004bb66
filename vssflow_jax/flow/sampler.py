"""How a latent is drawn from the flow: solver, guidance, and what is hidden."""

import dataclasses
from typing import TYPE_CHECKING

from vssflow_jax.flow.guidance import ALWAYS
from vssflow_jax.flow.solvers import ADAPTIVE, TABLEAUS, Solver, make_solver
from vssflow_jax.utils.checks import check_choice, check_within
from vssflow_jax.utils.errors import UserError

if TYPE_CHECKING:
    import ml_collections

_SECTION = "eval.sampler"


@dataclasses.dataclass(frozen=True)
class Sampler:
    """The section `eval.sampler` of a config.

    Attributes:
      method: name of a solver, one of `TABLEAUS` or `ADAPTIVE`.
      steps: number of steps of a solver whose steps are fixed.
      tolerance: absolute and relative, of one whose steps adapt.
      guidance: weight w of classifier-free guidance; 1 computes one pass only.
      guidance_interval: flow times between which it is applied.
      mask_ratio: share of lip and motion frames that are hidden.
    """

    method: str
    steps: int
    tolerance: float = 1e-5
    guidance: float = 1.0
    guidance_interval: tuple[float, float] = ALWAYS
    mask_ratio: float = 0.0

    @classmethod
    def from_config(cls, section: "ml_collections.ConfigDict") -> "Sampler":
        """The sampler of a config's section.

        Raises:
          UserError: a value that cannot be.
        """
        fields = section.to_dict()
        return cls(**{**fields, "guidance_interval": tuple(fields["guidance_interval"])})

    def __post_init__(self) -> None:
        """Raises UserError for a value that cannot be."""
        check_choice(f"{_SECTION}.method", self.method, (*TABLEAUS, ADAPTIVE))
        check_within(f"{_SECTION}.steps", self.steps, 1)
        check_within(f"{_SECTION}.tolerance", self.tolerance, 1e-9, 1)
        check_within(f"{_SECTION}.guidance", self.guidance, 0)
        check_within(f"{_SECTION}.mask_ratio", self.mask_ratio, 0, 1)
        times = self.guidance_interval
        numbers = all(isinstance(time, int | float) for time in times)
        if len(times) != 2 or not numbers or not 0 <= times[0] < times[1] <= 1:
            raise UserError(
                f"{_SECTION}.guidance_interval is {times}; give two flow times from 0 to 1, the "
                "earlier one first"
            )

    @property
    def adaptive(self) -> bool:
        """Whether the steps adapt, and each clip is taken by itself."""
        return self.method == ADAPTIVE

    @property
    def evaluations(self) -> int | None:
        """Of the velocity, guided or not, for a clip; None where the solver finds out."""
        return None if self.adaptive else self.steps * len(TABLEAUS[self.method].weights)

    def make_solver(self) -> Solver:
        """The solver.

        Raises:
          UserError: its package is not installed.
        """
        return make_solver(self.method, self.steps, self.tolerance)
