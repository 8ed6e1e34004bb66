"""Where everything stands when a run has stood still for long."""

import contextlib
import faulthandler
from collections.abc import Iterator
from typing import Any

_STDERR = 2


class Watchdog(contextlib.AbstractContextManager["Watchdog"]):
    """Writes the stacks of all threads to stderr where no step ends for long; the run goes on.

    Once a stall: the next time is after another step. Reading, steps and saving are watched; what
    takes its own time, such as evaluation, pauses it. It is a thread of the system's that needs no
    turn of Python's, and so also sees calls that never give it back.

    Args:
      minutes: how long; 0: nothing is watched.
    """

    def __init__(self, minutes: float):
        self._seconds = 60 * minutes

    def __enter__(self) -> "Watchdog":
        self.step_ended()
        return self

    def step_ended(self) -> None:
        """Begin to wait anew; takes less than a tenth of a millisecond."""
        if self._seconds:
            faulthandler.dump_traceback_later(self._seconds, file=_STDERR)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Around what may take as long as it likes."""
        if self._seconds:
            faulthandler.cancel_dump_traceback_later()
        try:
            yield
        finally:
            self.step_ended()

    def __exit__(self, *error: Any) -> None:
        if self._seconds:
            faulthandler.cancel_dump_traceback_later()
