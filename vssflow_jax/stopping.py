"""Stopping when asked to, with everything saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """An event that is set by Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    earlier: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}

    def request(number: int, frame: Any) -> None:
        del frame
        stop.set()
        signal.signal(number, earlier[number])

    for number in earlier:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
