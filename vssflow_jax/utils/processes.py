"""Processes that work for this one, and end with it."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import jax

from vssflow_jax.utils import plugins
from vssflow_jax.utils.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


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


def killed() -> UserError:
    """What to say of a worker that was killed."""
    return UserError(
        "a worker was killed, perhaps for want of memory; the same command goes on, with fewer "
        "--workers"
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
