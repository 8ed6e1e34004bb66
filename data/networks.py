"""Shards whose features are made by networks: processes read clips ahead, and this one, which has
the accelerator, runs the networks on groups of them.
"""

import functools
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from data.shard_writer import Job, Made, NetworkSource, Report, is_written, read_report, write_shard
from vssflow_jax.networks.spread import Spread
from vssflow_jax.utils import processes
from vssflow_jax.utils.errors import Rejected

GROUP = 8  # clips that the networks see together


class Waiting:
    """How long the networks wait for clips to be read.

    Attributes:
      sec: seconds so far.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.sec = 0.0

    def __str__(self) -> str:
        total_sec = time.monotonic() - self._started
        share = self.sec / total_sec
        return f"networks: {total_sec:.1f} s, {share:.0%} of them waiting for clips to be read"


def write_shards(jobs: Sequence[Job], workers: int) -> Iterator[Report]:
    """Write shards, one after the other; says in the end what share of the time went to waiting.

    Args:
      jobs: whose source is a `NetworkSource`, the same for all.
      workers: processes that read clips.

    Raises:
      UserError: a process was killed.
    """
    yield from (read_report(job) for job in jobs if is_written(job))
    jobs = [job for job in jobs if not is_written(job)]
    if not jobs:
        return
    source: Any = jobs[0].source
    waiting = Waiting()
    with processes.pool(workers) as pool:
        try:
            rows = (row for job in jobs for row in job.rows)
            ahead = processes.ahead(
                pool, functools.partial(prepared, source), rows, 2 * GROUP + workers
            )
            read = _timed(ahead, waiting)
            for job in jobs:
                yield write_shard(job, _finished(source, itertools.islice(read, len(job.rows))))
            print(waiting)
        except BrokenProcessPool as error:
            raise processes.killed() from error
        finally:
            pool.shutdown(cancel_futures=True)
            Spread.load.cache_clear()  # The device may be needed for something else.


def prepared(source: NetworkSource, row: Any) -> Any:
    """The first half of the record of a row, or why there is none."""
    try:
        return source.prepare(row)
    except Rejected as reason:
        return reason


def _finished(source: NetworkSource, clips: Iterator[Any]) -> Iterator[Made]:
    """What became of the rows of one shard, whose groups are its own whenever it is written."""
    for group in iter(lambda: [*itertools.islice(clips, GROUP)], []):
        good = [clip for clip in group if not isinstance(clip, Rejected)]
        made = iter(source.finish(good) if good else ())
        for clip in group:
            yield clip if isinstance(clip, Rejected) else next(made)


def _timed(items: Iterator[Any], waiting: Waiting) -> Iterator[Any]:
    while True:
        begun = time.monotonic()
        item = next(items, None)
        waiting.sec += time.monotonic() - begun
        if item is None:
            return
        yield item
