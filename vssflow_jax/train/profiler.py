"""An XProf trace of chosen steps, or of the next ones when a signal asks for it."""

import contextlib
import dataclasses
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import jax
import tqdm

from vssflow_jax.parallel import distributed
from vssflow_jax.utils.logs import Folder

ASKED_STEPS = 5
"""How many steps a signal has traced."""


@dataclasses.dataclass
class TraceRequest:
    """Whether somebody waits for a trace."""

    made: bool = False


@contextlib.contextmanager
def trace_requested() -> Iterator[TraceRequest]:
    """A request that SIGUSR1 makes, within this context."""
    request = TraceRequest()

    def note(*_: object) -> None:
        request.made = True

    earlier = signal.signal(signal.SIGUSR1, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGUSR1, earlier)


class StepTrace(AbstractContextManager["StepTrace"]):
    """Traces steps `first` to `last`, or those of them that a resumed run still has to do.

    And `ASKED_STEPS` more whenever that is requested, of the process that is asked alone.

    Args:
      steps: (first, last), counted from 1; empty for none. The main process alone traces them.
      request: looked at before each step.
      directory: for the traces.
      pause: a context in which no step is under way.
    """

    def __init__(
        self,
        steps: Sequence[int],
        request: TraceRequest,
        directory: Path,
        pause: Callable[[], AbstractContextManager[None]],
    ):
        self._first, self._last = steps or (0, 0)
        self._request = request
        self._directory, self._pause = directory, pause
        self._until = 0  # the last step of the trace under way
        self._folder: Folder | None = None

    def before(self, step: int) -> None:
        """Start with this step, if it is the first to be traced."""
        if self._until:
            return
        if self._request.made:
            self._request.made = False
            self._start(step, step + ASKED_STEPS - 1)
        elif self._first <= step <= self._last:
            self._start(step, self._last, traces=distributed.is_main())

    def _start(self, first: int, last: int, *, traces: bool = True) -> None:
        with self._pause():
            self._until = last
            if traces:
                self._folder = Folder(self._directory)
                jax.profiler.start_trace(str(self._folder.local))
                tqdm.tqdm.write(
                    f"steps {first} to {last} are traced into {self._directory}", file=sys.stderr
                )

    def after(self, step: int) -> None:
        """Stop, if this step was the last to be traced."""
        if self._until and step >= self._until:
            with self._pause():
                self._stop()

    def _stop(self) -> None:
        self._until = 0
        folder, self._folder = self._folder, None
        if folder:
            with folder:
                jax.profiler.stop_trace()

    def __exit__(self, *error: object) -> None:
        """Keep what there is of a trace that an early end cut short."""
        if self._until:
            self._stop()
