"""Stopping when asked to, with everything saved: all processes after the same step."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental import multihost_utils

StopAfter = Callable[[int], bool]


@contextmanager
def stop_requested() -> Iterator[StopAfter]:
    """Whether to stop after a step, as Ctrl-C or SIGTERM asks; a second Ctrl-C interrupts at once.

    The function is called with the number of steps done, before each step. Of many processes any
    one may be asked. JAX sees SIGTERM by itself then, and has all go on to the same step, which may
    be some steps away.
    """
    many = jax.process_count() > 1
    stop = threading.Event()

    def request(number: int, frame: Any) -> None:
        del frame
        stop.set()
        signal.signal(number, earlier[number])
        if many:
            os.kill(os.getpid(), signal.SIGTERM)

    # A handler for SIGTERM would take the place of JAX's own.
    numbers = (signal.SIGINT,) if many else (signal.SIGINT, signal.SIGTERM)
    earlier: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    for number in earlier:
        signal.signal(number, request)
    try:
        yield multihost_utils.reached_preemption_sync_point if many else lambda _: stop.is_set()
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def ask() -> None:
    """Have all processes stop after the same step, as SIGTERM to this one does."""
    os.kill(os.getpid(), signal.SIGTERM)
