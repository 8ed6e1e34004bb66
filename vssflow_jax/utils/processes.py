"""Processes that work for this one, and end with it."""

import collections
import contextlib
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

import jax
import joblib

from vssflow_jax.utils import plugins
from vssflow_jax.utils.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_WORTH_A_PROCESS = 16  # items
_START_TIME = 22  # field of `/proc/PID/stat`, from 1, in ticks since the machine was started


def age_sec() -> float:
    """Seconds since this process was started; 0 where the system does not tell as Linux does."""
    try:
        # The second field is the name of the program in parentheses, whatever that has in it.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started_sec = int(fields[_START_TIME - 3]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_sec)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def as_done(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Results of a function of each item as they come, by processes; by this one, if that is all.

    Raises:
      UserError: a process was killed.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    with pool(workers) as processes:
        try:
            for done in as_completed([processes.submit(function, item) for item in items]):
                yield done.result()
        except BrokenProcessPool as error:
            raise killed() from error
        finally:
            processes.shutdown(cancel_futures=True)


def ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[Result]:
    """Results of a function in the order of the items, of which so many are under way."""
    items = iter(items)
    under_way: collections.deque[Future[Result]] = collections.deque()
    under_way.extend(pool.submit(function, item) for item in itertools.islice(items, depth))
    while under_way:
        result = under_way.popleft().result()
        under_way.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
        yield result


@contextlib.contextmanager
def workers_for(items: int) -> Iterator[Executor]:
    """Processes for many items; a thread for few, which would wait for processes to start.

    They give up what waits where this one fails.

    Raises:
      UserError: a process was killed.
    """
    workers = min(joblib.cpu_count(), items // _WORTH_A_PROCESS)
    with pool(workers) if workers > 1 else ThreadPoolExecutor(1) as executor:
        try:
            yield executor
        except BrokenProcessPool as error:
            raise killed("") from error
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def killed(advice: str = ", with fewer --workers") -> UserError:
    """What to say of a worker that was killed, and perhaps of what helps."""
    return UserError(
        f"a worker was killed, perhaps for want of memory; the same command goes on{advice}"
    )


def pool(workers: int) -> ProcessPoolExecutor:
    """Processes that run on CPUs, for accelerators are not shared, and know this one's plugins."""
    # Spawned, since a process that has started JAX must not be forked.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _start, (plugins.loaded(),))


def _start(modules: str) -> None:
    """Let this worker end when the process that started it does, even if that is killed."""
    jax.config.update("jax_platforms", "cpu")
    plugins.load(modules)
    parent = multiprocessing.parent_process()
    assert parent, "not a worker"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
