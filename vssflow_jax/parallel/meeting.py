"""Where the processes of a job meet first, so that one that stays away can be named.

`jax.distributed.initialize` ends a process from within, without a Python error, where the others
do not come in time. So they meet here before: process 0 listens at the place where JAX's service
will be, the others connect and say who they are, and none goes on to JAX before all are there.
"""

import contextlib
import dataclasses
import json
import os
import selectors
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from vssflow_jax.utils.errors import UserError

_RETRY_SEC = 0.5
_GRACE_SEC = 10  # for an answer to come
_LONGEST_WORD = 1 << 16  # bytes of a message
_NAMED = 16  # processes in a line
_LONGER = "--meeting_minutes"


class MissingProcess(UserError):
    """Some process did not come in time; with the next start it may."""


@dataclasses.dataclass(frozen=True)
class Job:
    """The processes that belong together, as their launcher tells each of them.

    Attributes:
      address: HOST:PORT of process 0, where all meet.
      processes: how many there are.
      index: number of this one.
      local_devices: numbers of the devices that it is to see; None: all of its host.
    """

    address: str
    processes: int
    index: int
    local_devices: tuple[int, ...] | None = None


def find_job(timeout_sec: float) -> Job | None:
    """What `jax.distributed.initialize` would find of the job; None where that cannot be asked.

    JAX has no public way to ask: this is the one place that knows of a private one.

    Args:
      timeout_sec: how long to look for the host of process 0.

    Raises:
      ValueError, RuntimeError, OSError, KeyError: there is a launcher, but it does not tell.
    """
    try:
        from jax._src.clusters import ClusterEnv

        find = ClusterEnv.auto_detect_unset_distributed_params
    except (ImportError, AttributeError):
        return None
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    address, processes, index, local = find(address, None, None, None, None, int(timeout_sec))
    if address is None or processes is None or index is None:
        return None
    if os.environ.get("JAX_LOCAL_DEVICE_IDS"):
        local = None  # JAX reads that itself.
    return Job(address, processes, index, None if local is None else tuple(local))


def wait_for_all(job: Job, timeout_sec: float, host: str | None = None) -> None:
    """Return when all processes of a job are here.

    Args:
      job: the job.
      timeout_sec: how long process 0 waits for the others, and each of them for it.
      host: name of this host, by default as it calls itself.

    Raises:
      MissingProcess: some did not come in time; says which.
      UserError: two have one number, or the place to meet is taken.
    """
    host = host or socket.gethostname()
    if job.index:
        _report(job, timeout_sec, host)
    elif job.processes > 1:
        _receive(job, timeout_sec, host)


def _receive(job: Job, timeout_sec: float, host: str) -> None:
    """The part of process 0."""
    deadline = time.monotonic() + timeout_sec
    hosts = {0: host}
    seen: dict[socket.socket, int] = {}
    with contextlib.ExitStack() as closing:
        server = closing.enter_context(_listen(job))
        selector = closing.enter_context(selectors.DefaultSelector())
        selector.register(server, selectors.EVENT_READ)
        while len(hosts) < job.processes and (left_sec := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left_sec):
                if key.fileobj is server:
                    connection = closing.enter_context(server.accept()[0])
                    connection.settimeout(_RETRY_SEC)
                    selector.register(connection, selectors.EVENT_READ)
                    continue
                connection = cast(socket.socket, key.fileobj)
                word = _read(connection)
                if connection in seen or word is None or not _is_ours(word, job):
                    # It has gone again, as when it was killed, or is a stranger.
                    selector.unregister(connection)
                    connection.close()
                    hosts.pop(seen.pop(connection, -1), None)
                    continue
                index, there = word["index"], word["host"]
                if index in hosts:
                    both = (
                        f"--distributed: two processes, on {hosts[index]} and {there}, are both "
                        f"number {index} of {job.processes}; give each its own"
                    )
                    _tell([*seen, connection], {"error": both})
                    raise UserError(both)
                seen[connection], hosts[index] = index, there
        missing = _missing(job, hosts, timeout_sec) if len(hosts) < job.processes else ""
        _tell(seen, {"missing": missing})
        if missing:
            raise MissingProcess(missing)
        # They close first, and leave the port free for JAX.
        for connection in seen:
            with contextlib.suppress(OSError):
                connection.recv(1)


def _report(job: Job, timeout_sec: float, host: str) -> None:
    """The part of the others."""
    deadline = time.monotonic() + timeout_sec
    name, _, port = job.address.rpartition(":")
    while True:
        left_sec = deadline - time.monotonic()
        word = None
        with contextlib.suppress(OSError):
            place = name.strip("[]"), int(port)
            with socket.create_connection(place, max(_RETRY_SEC, left_sec)) as connection:
                # Process 0 may have come later, and says when it gives up.
                connection.settimeout(timeout_sec + _GRACE_SEC)
                _write(connection, {"index": job.index, "host": host})
                word = _read(connection)
        if word and "error" in word:
            raise UserError(word["error"])
        if word and "missing" in word:
            if word["missing"]:
                raise MissingProcess(word["missing"])
            return
        if left_sec <= 0:
            raise MissingProcess(
                f"--distributed: process {job.index} of {job.processes}, on {host}, did not reach "
                f"process 0 at {job.address} within {_minutes(timeout_sec)}; see that it was "
                f"started and that the network lets them meet, or wait longer by {_LONGER}"
            )
        time.sleep(_RETRY_SEC)


def _listen(job: Job) -> socket.socket:
    """The place where all meet, on all addresses of this host.

    Raises:
      UserError: it is taken.
    """
    # JAX's own variable, for where the others reach this host by another port.
    address = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", job.address)
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(
            ("", port), family=family, backlog=job.processes, dualstack_ipv6=both
        )
    except OSError as error:
        raise UserError(
            f"--distributed: process 0 cannot listen at port {port} ({error.strerror}); end what "
            "is there, or choose another port for all processes by JAX_COORDINATOR_PORT"
        ) from error


def _missing(job: Job, hosts: Mapping[int, str], timeout_sec: float) -> str:
    """A line on who did not come, by number, and by host where the launcher has told of them."""
    names = os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
    known = names if len(names) == job.processes else [""] * job.processes
    away = [
        f"{index} ({known[index]})" if known[index] else str(index)
        for index in range(job.processes)
        if index not in hosts
    ]
    there = [f"{index} on {host}" for index, host in sorted(hosts.items())]
    return (
        f"--distributed: of {job.processes} processes, {len(away)} did not come within "
        f"{_minutes(timeout_sec)}: {_some(away)}; there were {_some(there)}; start all of them, "
        f"or wait longer by {_LONGER}"
    )


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.3g} minutes"


def _is_ours(word: Mapping[str, Any], job: Job) -> bool:
    """Whether what was read is what `_report` says."""
    return word.get("index") in range(job.processes) and "host" in word


def _tell(connections: Iterable[socket.socket], word: Mapping[str, str]) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            _write(connection, word)


def _write(connection: socket.socket, word: Mapping[str, Any]) -> None:
    connection.sendall(json.dumps(word).encode() + b"\n")


def _read(connection: socket.socket) -> dict[str, Any] | None:
    """What the other end wrote; None if it has gone, is slow, or speaks otherwise."""
    try:
        with connection.makefile("rb") as lines:
            word = json.loads(lines.readline(_LONGEST_WORD))
    except (OSError, ValueError):
        return None
    return word if isinstance(word, dict) else None
