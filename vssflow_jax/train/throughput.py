"""How fast a run goes and where its time went, measured without making anything wait.

The loop gives steps to the devices ahead of time and cannot see when they finish. A thread of its
own waits for each step and notes when; the loop adds that up one step late, with the metrics.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax

from vssflow_jax.train.goodput import OTHER, Clock, Goodput, Startup

TERA = 1e12


class StepTimes(NamedTuple):
    """When things happened to one step, in seconds of one clock.

    Attributes:
      asked: the loop asked for the batch.
      called: the batch was on its way to the devices, and the loop called the step.
      done: the devices had finished the step.
      flops: model FLOPs of the step (`vssflow_jax.models.flops`), no time.
    """

    asked: float
    called: float
    done: float
    flops: int = 0


class Throughput(contextlib.AbstractContextManager["Throughput"]):
    """Speed of a run between two rows, and its goodput and badput.

    A step's time is from the end of the step before to its own end, without what was `pause`. In
    that time lies waiting for data, if the devices had nothing left to do meanwhile. The first
    step of a process is not counted, for it is compiled in it.

    Goodput is the share of the time since the run was first started, whether a process was there
    or not, in which the devices worked on steps that the run has kept. A step's work begins with
    its call or the end of the step before, whichever is later. With several processes each has its
    own, and a wait of one is work to others.

    Badput is what every cause has taken of that time: the parts of starts (`Startup`); waiting for
    data (`data_wait`); steps that were `dropped`; what was `pause`; what had been done when a
    process ended or went back, and was not in its checkpoint (`undone`); the time until the next
    start (`absent`). All that is none of these is `other`, so that goodput and badput add up to 1.

    Args:
      goodput: goodput of the run until this start: a new one, or as the checkpoint has it.
      startup: the start that leads to the first step.
      clips: clips of a batch, over all devices.
      peak_flops: FLOPs a second that all devices together could do at best, in bfloat16; None
        where that is not known.
      clock: seconds that only go forward.
      unix_time: seconds that all machines agree on.
    """

    def __init__(
        self,
        goodput: Goodput,
        startup: Startup,
        *,
        clips: int,
        peak_flops: float | None,
        clock: Clock = time.monotonic,
        unix_time: Clock = time.time,
    ):
        self._started_sec = goodput.started_sec
        self._productive_sec = goodput.productive_sec
        self._lost_sec = defaultdict(float, goodput.lost_sec)  # without this start
        self._startup, self._startup_told = startup, False
        self._clips, self._peak_flops = clips, peak_flops
        self._clock, self._unix_time = clock, unix_time
        self._watcher = ThreadPoolExecutor(1, thread_name_prefix="throughput")
        self._last_done: float | None = None
        self._paused_sec = 0.0  # since the last step
        self._reset()

    def _reset(self) -> None:
        self._steps, self._flops, self._span_sec, self._starved_sec = 0, 0, 0.0, 0.0

    def __exit__(self, *error: object) -> None:
        self._watcher.shutdown(wait=False, cancel_futures=True)

    def watch(self, asked: float, called: float, flops: int, result: Any) -> Future[StepTimes]:
        """Note when the devices have a step's result; returns at once. See `StepTimes`."""

        def wait() -> StepTimes:
            jax.block_until_ready(result)
            return StepTimes(asked, called, self._clock(), flops)

        return self._watcher.submit(wait)

    def add(self, times: StepTimes, *, kept: bool = True) -> None:
        """Count a step that is done, unless the run has not kept it; steps come in order."""
        if self._last_done is None:
            self._startup.parts["first_batch"] += times.called - times.asked
            self._startup.parts["first_step"] += times.done - times.called
            self._startup.end(self._unix_time() - (self._clock() - times.done))
        else:
            waited_sec = max(0.0, times.called - max(times.asked, self._last_done))
            worked_sec = times.done - max(times.called, self._last_done)
            self._lost_sec["data_wait"] += waited_sec
            if kept:
                self._steps += 1
                self._flops += times.flops
                self._span_sec += times.done - self._last_done - self._paused_sec
                self._starved_sec += waited_sec
                self._productive_sec += worked_sec
            else:
                self._lost_sec["dropped"] += worked_sec
        self._last_done, self._paused_sec = times.done, 0.0

    @contextlib.contextmanager
    def pause(self, cause: str) -> Iterator[None]:
        """Around what is no part of a step: saving, samples. All steps given must be added."""
        begun = self._clock()
        try:
            yield
        finally:
            paused_sec = self._clock() - begun
            self._paused_sec += paused_sec
            self._lost_sec[cause] += paused_sec

    @property
    def goodput(self) -> Goodput:
        """To be kept with the state after the steps added."""
        lost_sec = self._lost_sec.copy()
        for part, seconds in self._startup.parts.items():
            lost_sec[part] += seconds
        lost_sec[OTHER] = 0.0
        lost_sec[OTHER] = self.elapsed_sec - self._productive_sec - sum(lost_sec.values())
        return Goodput(self._started_sec, self._productive_sec, dict(lost_sec))

    @property
    def elapsed_sec(self) -> float:
        """Since the run was first started."""
        return self._unix_time() - self._started_sec

    @property
    def share(self) -> float:
        """Goodput: the share of that time which was productive."""
        return self._productive_sec / self.elapsed_sec

    def startup(self) -> Startup | None:
        """The start, when it is over; None until then, and when it has been given."""
        if self._startup_told or self._last_done is None:
            return None
        self._startup_told = True
        return self._startup

    def row(self) -> dict[str, Any]:
        """Means over the steps added since the last row; empty if none was counted.

        `tflops_per_sec` is of model FLOPs, over all devices; `mfu` is there if their peak is known;
        `data_wait` is the share of the steps' time in which the devices waited for a batch;
        `goodput` and, by cause, `badput` are shares of `elapsed_sec`.
        """
        if not self._steps:
            return {}
        steps_per_sec = self._steps / self._span_sec
        flops_per_sec = self._flops / self._span_sec
        goodput = self.goodput
        elapsed_sec = goodput.elapsed_sec
        row: dict[str, Any] = {
            "steps_per_sec": steps_per_sec,
            "examples_per_sec": self._clips * steps_per_sec,
            "tflops_per_sec": flops_per_sec / TERA,
            "data_wait": self._starved_sec / self._span_sec,
            "elapsed_sec": elapsed_sec,
            "goodput": goodput.productive_sec / elapsed_sec,
            "badput": {cause: sec / elapsed_sec for cause, sec in goodput.lost_sec.items()},
        }
        if self._peak_flops:
            row["mfu"] = flops_per_sec / self._peak_flops
        self._reset()
        return row
