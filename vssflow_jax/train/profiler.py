"""An XProf trace of chosen steps."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import jax

from vssflow_jax.parallel import distributed
from vssflow_jax.utils.logs import Folder


class StepTrace(AbstractContextManager["StepTrace"]):
    """Traces steps `first` to `last`, or those of them that a resumed run still has to do.

    Args:
      steps: (first, last), counted from 1; empty for no trace.
      directory: for the trace; the main process alone writes one.
      pause: a context in which no step is under way.
    """

    def __init__(
        self,
        steps: Sequence[int],
        directory: Path,
        pause: Callable[[], AbstractContextManager[None]],
    ):
        self._first, self._last = steps or (0, 0)
        self._directory, self._pause = directory, pause
        self._running = False
        self._folder: Folder | None = None

    def before(self, step: int) -> None:
        """Start with this step, if it is the first to be traced."""
        if not self._running and self._first <= step <= self._last:
            with self._pause():
                self._running = True
                if distributed.is_main():
                    self._folder = Folder(self._directory)
                    jax.profiler.start_trace(str(self._folder.local))

    def after(self, step: int) -> None:
        """Stop, if this step was the last to be traced."""
        if self._running and step >= self._last:
            with self._pause():
                self._stop()

    def _stop(self) -> None:
        self._running = False
        if self._folder:
            with self._folder:
                jax.profiler.stop_trace()

    def __exit__(self, *error: object) -> None:
        """Keep what there is of a trace that an early end cut short."""
        if self._running:
            self._stop()
