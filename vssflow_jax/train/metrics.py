"""What a run reports while it goes on: rows, writers, a progress bar; one step late."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import jax
import ml_collections
import numpy as np
import tqdm

from vssflow_jax.parallel import distributed
from vssflow_jax.run.experiment import WATCHED
from vssflow_jax.run.workdir import THROUGHPUT, MetricsLog
from vssflow_jax.train.bad_steps import BadSteps
from vssflow_jax.train.step import Metrics
from vssflow_jax.train.throughput import StepTimes, Throughput
from vssflow_jax.train.writers import Writers


class MetricWriter(contextlib.ExitStack):
    """Writes `metrics.jsonl` and `throughput.jsonl` of a run, and tells its writers the same.

    A step's metrics are read when the next step is under way, so that nothing waits for them. Only
    then is it known whether the step was kept.

    Args:
      workdir: folder of the run.
      throughput: to which steps are added as they are reported.
      bad_steps: hears of steps that were dropped.
      done: steps of the run that are done.
      train: the `train` section of the config.
      writers: are told the same.
    """

    def __init__(
        self,
        workdir: Path,
        throughput: Throughput,
        bad_steps: BadSteps,
        done: int,
        train: ml_collections.ConfigDict,
        writers: Writers,
    ):
        super().__init__()
        self._throughput, self._bad_steps, self._writers = throughput, bad_steps, writers
        self._log_every = train.log_every
        # Times differ from run to run and so have a file of their own.
        self._log = self.enter_context(MetricsLog(workdir))
        self._speed_log = self.enter_context(MetricsLog(workdir, THROUGHPUT))
        self._kept = done
        self._bar = self.enter_context(
            tqdm.tqdm(
                total=train.steps,
                initial=min(done, train.steps),
                desc="train",
                unit="step",
                disable=not distributed.is_main(),
            )
        )
        self.last_saved: int | None = done or None
        """Step of the last checkpoint, for whoever hears of a bad step."""
        self._pending: tuple[int, Metrics, Future[StepTimes], int] | None = None

    @property
    def done(self) -> int:
        """Steps done, with the one that is not reported yet, which may turn out to be bad."""
        return self._kept + (self._pending is not None)

    def write(self, batch: int, metrics: Metrics, times: Future[StepTimes], num_bad: int) -> None:
        """Take what a step gave; report the step before.

        Args:
          batch: number of its batch.
          metrics: on the devices, perhaps not computed yet.
          times: times of the step, when it is done.
          num_bad: records that were skipped until now.

        Raises:
          Rewind, UserError: see `flush`.
        """
        self.flush()
        self._pending = batch, metrics, times, num_bad

    def flush(self) -> None:
        """Report what has been taken; waits for it.

        Raises:
          Rewind, UserError: it was dropped, and the run goes back or ends (`BadSteps.note`).
        """
        if self._pending is None:
            return
        (batch, metrics, times, num_bad), self._pending = self._pending, None
        found = jax.device_get(metrics)
        losses, kept = found.pop("clip_losses"), bool(found.pop("kept"))
        values = {name: float(value) for name, value in found.items()}
        self._throughput.add(times.result(), kept=kept)
        if startup := self._throughput.startup():
            self._speed_log.write({"step": self._kept + kept, "startup_sec": startup.parts})
            if distributed.is_main():
                tqdm.tqdm.write(str(startup))
        step = self._kept + 1
        if not kept:
            watched = {name: values[name] for name in WATCHED}
            self._bad_steps.note(step, batch, watched, losses, self.last_saved)
            return
        self._kept = step
        self._bar.update()
        self._bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
        if step % self._log_every:
            return
        # A bin of flow time that no clip fell into has no loss.
        row = {name: value for name, value in values.items() if np.isfinite(value)}
        self._log.write({"step": step, **row})
        self._writers.scalars("train", step, row)
        bad = {"bad_records": num_bad, "bad_steps": len(self._bad_steps.batches)}
        if speed := self._throughput.row():
            self._speed_log.write({"step": step, **speed, **bad})
            self._writers.scalars("badput", step, speed.pop("badput"))
            self._writers.scalars("speed", step, speed)

    def reached(self, steps: int) -> bool:
        """Whether so many steps are done; waits for the last of them, which may be bad.

        Raises:
          Rewind, UserError: see `flush`.
        """
        if self.done >= steps:
            self.flush()
        return self.done >= steps

    def is_due(self, step: int, every: int) -> bool:
        """Whether a step is to be followed by what follows every so many of them.

        If so it has been waited for, and was kept. Never, for 0.

        Args:
          step: number of the step that was taken, if it was kept.
          every: how many steps there are from one to the next.

        Raises:
          Rewind, UserError: see `flush`.
        """
        if not every or step % every:
            return False
        self.flush()
        return self.done == step

    @contextlib.contextmanager
    def pause(self, cause: str) -> Iterator[None]:
        """Around what is no part of a step: reports all steps, and stops their clock.

        Args:
          cause: what the time is lost to, for `Throughput.pause`.
        """
        self.flush()
        with self._throughput.pause(cause):
            yield

    def put(self) -> None:
        """Return when all that was reported is where a kill leaves it.

        Raises:
          UserError: the bucket that it is for does not take it.
        """
        self._log.put()
        self._speed_log.put()
        self._writers.put()
