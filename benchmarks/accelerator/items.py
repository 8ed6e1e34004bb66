"""What is measured: a part yields items, each of which makes one row."""

import dataclasses
import gc
import math
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Row = dict[str, Any]
"""JSON values by column; `result` is text, `ms`, `clips_per_sec`, `tflops`, `mfu` and `gb` are
numbers. Rows with one `pair` did the same work, by JAX and by PyTorch."""

DOES_NOT_FIT = "does not fit"
FAILED = "failed: "
LEFT_OUT = "left out: no time"
WRONG = "WRONG"
_OUT_OF_MEMORY = ("resource_exhausted", "out of memory", "toolarge")


@dataclasses.dataclass(frozen=True)
class Item:
    """One thing to measure.

    Attributes:
      name: what it is.
      measure: makes its row.
      ladder: items of one ladder need ever more memory: where one does not fit, the rest are not
        tried. "" is no ladder.
    """

    name: str
    measure: Callable[[], Row]
    ladder: str = ""


@dataclasses.dataclass(frozen=True)
class Clock:
    """How long is measured.

    Attributes:
      rounds: of which the median is taken.
      round_sec: how long a round lasts at least.
    """

    rounds: int
    round_sec: float

    def seconds(self, call: Callable[[], Any], wait: Callable[[Any], Any]) -> float:
        """Seconds of a call, which has been called before.

        Args:
          call: starts the work.
          wait: returns when the work of what `call` returned is done.
        """
        once = _elapsed(lambda: wait(call()))
        calls = max(1, math.ceil(self.round_sec / once))

        def one_round() -> None:
            for _ in range(calls):
                made = call()
            wait(made)

        return statistics.median(_elapsed(one_round) / calls for _ in range(self.rounds))


def _elapsed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def rows(items: Iterable[Item], deadline: float) -> Iterator[Row]:
    """The row of each item. None is begun after the deadline (`time.time`)."""
    ended: set[str] = set()
    for item in items:
        if item.ladder and item.ladder in ended:
            continue
        if time.time() >= deadline:
            yield {"item": item.name, "result": LEFT_OUT}
            continue
        gc.collect()  # An item has the memory to itself.
        started = time.perf_counter()
        try:
            row = item.measure()
        except Exception as error:  # The other items are measured all the same.
            told = f"{type(error).__name__}: {error}"
            if any(sign in told.lower() for sign in _OUT_OF_MEMORY):
                ended.add(item.ladder)
                row = {"result": DOES_NOT_FIT}
            else:
                traceback.print_exc(file=sys.stderr)
                row = {"result": f"{FAILED}{' '.join(told.split())[:200]}"}
        yield {"item": item.name, **row, "item_sec": time.perf_counter() - started}
