"""Bad steps: told and dropped inside the jitted step, named on the host one step late.

A step is bad if its loss or the norm of its gradient is not finite, or, if that is asked for, lies
further above its median over the last `RECENT_STEPS` steps than so many robust deviations. One such
is 1.4826 times the median distance from the median: the standard deviation, if they are normally
distributed (Huber and Ronchetti 2009, "Robust Statistics", section 5.1).

A bad step changes nothing, not even the number of steps done. So the next batch is given noise,
learned from at a rate, and averaged as if the bad one had never been.
"""

import contextlib
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from vssflow_jax.parallel import distributed
from vssflow_jax.run.experiment import REWIND, SKIP, STOP, TrainState
from vssflow_jax.run.workdir import BAD_STEPS, MetricsLog, rows
from vssflow_jax.utils.errors import UserError

if TYPE_CHECKING:
    import ml_collections

Watched = Mapping[str, jax.Array]

_NORMAL = 1.4826  # standard deviations of a normal distribution in its median distance
_NAMED = 8  # clips in a line; the file has all of them


# -------------------------------------------------------------------------------- on the devices
def is_good(watched: Watched, recent: Watched, deviations: float) -> jax.Array:
    """Whether a step is to be kept, bool [].

    Args:
      watched: its loss and the norm of its gradient, by name.
      recent: those of the steps before it, as `TrainState.recent`.
      deviations: how many robust deviations above the median are too many; 0: none are.
    """
    good = jnp.array(True)
    for name, value in watched.items():
        good &= jnp.isfinite(value)
        if deviations:
            good &= value <= limit(recent[name], deviations)
    return good


def limit(values: jax.Array, deviations: float) -> jax.Array:
    """So many robust deviations above the median of values [w]; infinity if one of them is NaN."""
    median = jnp.median(values)
    deviation = _NORMAL * jnp.median(jnp.abs(values - median))
    found = median + deviations * deviation
    return jnp.where(jnp.isnan(found), jnp.inf, found)


def with_newest(recent: Watched, step: jax.Array, watched: Watched) -> dict[str, jax.Array]:
    """`recent` with the values of step `step` in place of the oldest."""
    return {name: past.at[step % len(past)].set(watched[name]) for name, past in recent.items()}


def chosen(kept: jax.Array, new: TrainState, old: TrainState) -> TrainState:
    """`new` if `kept`, else `old`; what is the same in both is passed on."""
    return jax.tree.map(lambda a, b: a if a is b else jnp.where(kept, a, b), new, old)


# ----------------------------------------------------------------------------------- on the host
class Rewind(Exception):
    """The run goes back to its last whole checkpoint."""


class BadSteps(contextlib.ExitStack):
    """The bad steps of a run, which are rows of `bad_steps.jsonl` in its folder.

    Args:
      workdir: folder of the run.
      train: the `train` section of its config.
      clips_of: ids of the clips of a batch, by its number.
    """

    def __init__(
        self,
        workdir: Path,
        train: "ml_collections.ConfigDict",
        clips_of: Callable[[int], Sequence[str]],
    ):
        super().__init__()
        self.batches = {row["batch"] for row in rows(workdir, BAD_STEPS) if row["then"] != STOP}
        """Numbers of the batches that the run is to go on without."""
        self._log = self.enter_context(MetricsLog(workdir, BAD_STEPS))
        self._then, self._most = train.bad_step, train.max_bad_steps
        self._gone_back: Counter[int | None] = Counter()  # to the checkpoint of a step
        self._clips_of = clips_of

    def put(self) -> None:
        """Return when all rows are where a kill leaves them; see `MetricsLog`."""
        self._log.put()

    def note(
        self,
        step: int,
        batch: int,
        values: Mapping[str, float],
        losses: np.ndarray,
        last_saved: int | None,
    ) -> None:
        """Name a bad step, and do about it what the config says.

        Args:
          step: steps that would have been done with it.
          batch: number of its batch.
          values: its loss and the norm of its gradient, by name.
          losses: loss of each clip [b].
          last_saved: step of the last checkpoint.

        Raises:
          Rewind: the run is to go back.
          UserError: it is to end, or more batches are bad than may be, in a row or behind one
            checkpoint that the run has gone back to.
        """
        row = 1
        while batch - row in self.batches:
            row += 1
        then = self._then if row <= self._most else STOP
        if then == REWIND:
            self._gone_back[last_saved] += 1
            then = then if self._gone_back[last_saved] <= self._most else STOP
        clips = self._clips_of(batch)
        # Where each has a finite loss, any of them may be the one whose gradient is not.
        bad = [clip for clip, loss in zip(clips, losses, strict=True) if not np.isfinite(loss)]
        bad = bad or list(clips)
        self._log.write(
            {
                "step": step,
                "batch": batch,
                **{name: x if math.isfinite(x) else str(x) for name, x in values.items()},
                "clips": bad,
                "then": then,
            }
        )
        more = f" and {len(bad) - _NAMED} more in {BAD_STEPS}" if len(bad) > _NAMED else ""
        what = (
            f"step {step}: the loss is {values['loss']}, the norm of its gradient "
            f"{values['grad_norm']}, with clips {', '.join(bad[:_NAMED])}{more}"
        )
        if then == STOP:
            many = f", as of {row} batches in a row" if row > 1 else ""
            if self._gone_back[last_saved] > self._most:
                many = f", after the run had gone back {self._most} times"
            raise UserError(
                f"{what}{many}; lower train.learning_rate, set train.grad_clip_norm, or pass over "
                f"such batches by --config.train.bad_step=skip; the last checkpoint is of step "
                f"{last_saved}"
            )
        self.batches.add(batch)
        if distributed.is_main():
            done = "dropped" if then == SKIP else f"going back to step {last_saved or 0} without it"
            # Imported here: the step itself needs no bar.
            import tqdm

            tqdm.tqdm.write(f"{what}; {done}", file=sys.stderr)
        if then == REWIND:
            raise Rewind
