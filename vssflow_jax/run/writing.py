"""What writing a checkpoint takes: room on the disk, and hearing of what fails meanwhile."""

import errno
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from vssflow_jax.utils.files import bucket_path


class Barrier:
    """Where the processes' threads that write for orbax wait for each other.

    Orbax tells of a write that failed when it is asked to save again, or to wait. Its thread comes
    here with the error before that; it need not wait for the others, which are not coming.

    Attributes:
      failure: that error.
    """

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._barrier = ocp.multihost.get_barrier_sync_fn()

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        error = sys.exception()
        if error is not None and threading.current_thread() is not threading.main_thread():
            self.failure = error
        else:
            self._barrier(key=key, timeout_ms=timeout_ms)


def own_bytes(array: jax.Array) -> int:
    """Of an array's bytes those that this process writes."""
    return sum(x.data.nbytes for x in array.addressable_shards if x.replica_id == 0)


def check_room(directory: Path, size: int) -> None:
    """Checks that `size` bytes can be written below `directory`, by setting them aside for a
    moment.

    Raises:
      OSError: they cannot: the disk is full, or a quota or limit stands in the way.
    """
    if not size or bucket_path(directory):
        return  # as of a process whose devices hold what others write; a bucket is never full
    with tempfile.TemporaryFile(dir=directory) as probe:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(probe.fileno(), 0, size)
        elif shutil.disk_usage(directory).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
