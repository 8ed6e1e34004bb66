"""What reading asks of the machine, compared with what it has: open files and shared memory."""

import os
import resource
import sys

from vssflow_jax.utils.errors import UserError

# Besides shards: libraries, sockets, logs, checkpoints, and pipes of processes.
_OTHER_FILES = 256
# Where grain's processes lay batches for the one that trains; Python's `shared_memory` does.
_SHARED_MEMORY = "/dev/shm"
# Of each process that reads: one in the queue, one that waits for its place there.
_BATCHES_A_WORKER = 2
# Taken out of the queue and not yet copied to the devices.
_BATCHES_TAKEN = 2


def allow_open_files(shards: int) -> None:
    """Let this process, and those that it starts, have as many open files as they may.

    Readers keep each shard open. Says in one line on stderr if all shards are more than that.

    Args:
      shards: of the dataset.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    needed = shards + _OTHER_FILES
    if most not in (resource.RLIM_INFINITY,) and most < needed:
        print(
            f"warning: a process may have {most} files open here, and reading {shards} shards can "
            f"take {needed}; raise the hard limit (`ulimit -Hn`, LimitNOFILE=, or docker's "
            "--ulimit nofile=)",
            file=sys.stderr,
        )


def check_shared_memory(
    batch_bytes: int, workers: int, path: str | os.PathLike[str] = _SHARED_MEMORY
) -> None:
    """Check that processes that read can hand over their batches.

    Where the memory is used up the system kills whoever writes to it, without a word.

    Args:
      batch_bytes: size of the part of a batch that this process reads.
      workers: processes that read for it.
      path: where shared memory is mounted.

    Raises:
      UserError: not one batch of each fits into what is free; less is told of on stderr.
    """
    try:
        status = os.statvfs(path)
    except OSError:  # No such place: the system has shared memory elsewhere.
        return
    free_bytes = status.f_bavail * status.f_frsize
    batches = workers * _BATCHES_A_WORKER + _BATCHES_TAKEN
    if not workers or free_bytes >= batches * batch_bytes:
        return
    fault = (
        f"{path} has {free_bytes / 1e6:.0f} MB free, and {workers} processes that read need up to "
        f"{batches * batch_bytes / 1e6:.0f} MB there for batches of {batch_bytes / 1e6:.1f} MB; "
        "give it more (docker's --shm-size=, Kubernetes' emptyDir of medium Memory), or lower "
        "data.workers"
    )
    if free_bytes < (workers + 1) * batch_bytes:
        raise UserError(fault)
    print(f"warning: {fault}", file=sys.stderr)
