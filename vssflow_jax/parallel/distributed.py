"""Many processes, one a host, that train one model together.

Each runs the same command and the same steps on its own devices, and reads its own clips of each
batch. They share a filesystem; the main process alone writes reports to it. Who they are, and where
they meet, `jax.distributed` finds out by itself.
"""

import os
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import flags
from jax.experimental import multihost_utils

from vssflow_jax.parallel import meeting
from vssflow_jax.utils.errors import UserError

Item = TypeVar("Item")

PLATFORMS = ("cpu", "gpu", "tpu")  # as JAX calls them; "gpu" is of any make
MEETING_MINUTES = 5.0  # as JAX itself waits

# Waiting ends by itself when a process is lost: this is for what is slow, such as making a dataset.
_LONGEST_WAIT_SEC = 24 * 3600
# For all processes to hear of an error that all of them have.
_PARTING_SEC = 5
# How errors begin that may come of another process's end, as opposed to what a step itself did.
_BROKEN_CONNECTION = (
    "ABORTED:",
    "CANCELLED:",
    "DEADLINE_EXCEEDED:",
    "INTERNAL:",
    "UNAVAILABLE:",
    "UNKNOWN:",
)


def define_flags(values: flags.FlagValues = flags.FLAGS, *, many: bool = True) -> None:
    """Flags of an entry point, for `start_by_flags`.

    Args:
      values: where they are defined.
      many: whether it can be one of many processes.
    """
    flags.DEFINE_enum(
        "platform",
        None,
        PLATFORMS,
        "devices to compute on; refuses to start where JAX finds others",
        flag_values=values,
    )
    if not many:
        return
    flags.DEFINE_bool(
        "distributed",
        False,
        "this is one of the processes of a TPU pod, or of a job of SLURM, Open MPI or Kubernetes; "
        "all run the same command, with --workdir and the data where all of them see them",
        flag_values=values,
    )
    flags.DEFINE_float(
        "meeting_minutes",
        MEETING_MINUTES,
        "with --distributed: how long the processes wait for each other at the start",
        lower_bound=0,
        flag_values=values,
    )


def start_by_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """`start` as the flags of `define_flags` say."""
    names = ("distributed", "platform", "meeting_minutes")
    given: dict[str, Any] = {name: values[name].value for name in names if name in values}
    start(**given)


def start(
    distributed: bool = False,
    platform: str | None = None,
    meeting_minutes: float = MEETING_MINUTES,
) -> None:
    """Meet the other processes, if there are some, and the devices; comes before all that computes.

    Args:
      distributed: whether there are others.
      platform: one of `PLATFORMS`, or None for what JAX finds.
      meeting_minutes: how long to wait for the others.

    Raises:
      UserError: nothing says which processes there are, or some do not come; or there are no
        devices of the platform that is asked for.
    """
    if distributed:
        _meet(60 * meeting_minutes)
    try:
        found = jax.devices()[0]
    except (RuntimeError, AssertionError) as error:  # The latter where no backend was even tried.
        if is_loss(error):
            raise
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = str(error) or "there are none, or the package for them is not installed"
        raise UserError(
            f"JAX_PLATFORMS is '{asked}', but JAX cannot start such devices ({reason}); unset it "
            "to take what is there, or install jax for them: extras cuda and tpu"
        ) from error
    if platform not in (None, found.platform):
        raise UserError(
            f"--platform is '{platform}', but JAX computes on '{found.platform}' "
            f"({found.device_kind}); see that the driver works, that jax is installed for it "
            "(extras cuda and tpu), and that JAX_PLATFORMS lets it be taken"
        )


def _meet(timeout_sec: float) -> None:
    try:
        job = meeting.find_job(timeout_sec)
        if job is None:
            jax.distributed.initialize(initialization_timeout=int(timeout_sec))
            return
        meeting.wait_for_all(job, timeout_sec)
        jax.distributed.initialize(
            job.address,
            job.processes,
            job.index,
            job.local_devices,
            cluster_detection_method="deactivate",
        )
    except (ValueError, RuntimeError, OSError, KeyError) as error:
        raise UserError(
            f"--distributed: JAX found no other processes to meet ({error}); start the job as "
            "docs/launch.md says, or leave the flag out on one machine"
        ) from error


def is_main() -> bool:
    """Whether this is the process that writes reports."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Return when all processes are here, however long that takes.

    Args:
      name: name of this place in the program, where each process comes by once.
    """
    if not jax.distributed.is_initialized():
        return
    barrier = ocp.multihost.get_barrier_sync_fn()
    barrier(key=name, timeout_ms=1000 * _LONGEST_WAIT_SEC)


def own_share(items: Sequence[Item]) -> Sequence[Item]:
    """The items that this process sees to: each of several has others, all together have all."""
    return items[jax.process_index() :: jax.process_count()]


def all_say(yes: bool) -> bool:
    """Whether all processes, each of which comes by here, say yes."""
    if not jax.distributed.is_initialized():
        return yes
    return bool(np.all(multihost_utils.process_allgather(np.array(yes))))


def of_main(number: int) -> int:
    """The main process's number, for all processes, each of which comes by here."""
    if not jax.distributed.is_initialized():
        return number
    return int(np.ravel(multihost_utils.process_allgather(np.array(number)))[0])


def is_loss(error: BaseException) -> bool:
    """Whether an error can be another process's end."""
    kind = isinstance(error, ValueError | RuntimeError)
    return kind and jax.distributed.is_initialized() and str(error).startswith(_BROKEN_CONNECTION)


def leave(code: int, *, all_there: bool = True) -> NoReturn:
    """Exit after an error, though the others may wait for this process.

    What all of them have met, such as bad config, they leave together, unless one is lost. The
    others hear from JAX's coordination service that this one left, and it ends them: at once if
    this is the main process, else when they have missed its heartbeats for long.
    """
    if not jax.distributed.is_initialized():
        sys.exit(code)
    if all_there:
        parting = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        parting.start()
        parting.join(_PARTING_SEC)
    # Not by `sys.exit`, which waits for the others for minutes.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
