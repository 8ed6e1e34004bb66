"""An XProf trace of chosen steps."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import jax

from vssflow_jax.parallel import distributed


class StepTrace(contextlib.AbstractContextManager["StepTrace"]):
    """Traces steps `first` to `last`, or those of them that a resumed run still has to do.

    Whoever runs the steps sees to it that none is under way at `start` and `stop`.

    Args:
      steps: (first, last), counted from 1; empty for no trace.
      directory: for the trace; the main process alone writes one.
    """

    def __init__(self, steps: Sequence[int], directory: Path):
        self._first, self._last = steps or (0, 0)
        self._directory = directory
        self._running = False

    def starts_with(self, step: int) -> bool:
        """Whether the trace has to be started before this step."""
        return not self._running and self._first <= step <= self._last

    def stops_after(self, step: int) -> bool:
        """Whether the trace has to be stopped after this step."""
        return self._running and step >= self._last

    def start(self) -> None:
        self._running = True
        if distributed.is_main():
            jax.profiler.start_trace(self._directory)

    def stop(self) -> None:
        self._running = False
        if distributed.is_main():
            jax.profiler.stop_trace()

    def __exit__(self, *error: object) -> None:
        """Keep what there is of a trace that an early end cut short."""
        if self._running:
            self.stop()
