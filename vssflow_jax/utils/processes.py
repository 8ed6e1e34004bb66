"""Processes that work for this one, and end with it."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor

import jax


def pool(workers: int) -> ProcessPoolExecutor:
    """Processes that run on CPUs: accelerators are not shared."""
    # Spawned, since a process that has started JAX must not be forked.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start)


def _start() -> None:
    """Let this worker end when the process that started it does, even if that is killed."""
    jax.config.update("jax_platforms", "cpu")
    parent = multiprocessing.parent_process()
    assert parent, "not a worker"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
