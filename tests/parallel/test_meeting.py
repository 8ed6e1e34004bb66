"""Processes that meet before JAX does: all, some, late, twice, and with strangers at the door."""

import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import pytest

from tests import jobs
from vssflow_jax import cli
from vssflow_jax.parallel import distributed, meeting
from vssflow_jax.parallel.meeting import Job, find_job, wait_for_all
from vssflow_jax.utils.errors import UserError

Come = Callable[..., Future[None]]

LONG_SEC = 60.0
SHORT_SEC = 1.0


@pytest.fixture
def address() -> str:
    return f"localhost:{jobs.free_port()}"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def come(address: str, threads: ThreadPoolExecutor) -> Come:
    """Has a process of three come, from a host of its name."""

    def come(index: int, timeout_sec: float = LONG_SEC) -> Future[None]:
        return threads.submit(wait_for_all, Job(address, 3, index), timeout_sec, f"host-{index}")

    return come


def connected(address: str) -> socket.socket:
    """A connection to process 0, once it is there."""
    name, port = address.split(":")
    deadline = time.monotonic() + LONG_SEC
    while time.monotonic() < deadline:
        try:
            return socket.create_connection((name, int(port)))
        except OSError:
            time.sleep(0.01)
    raise AssertionError("nobody there")


def test_nobody_goes_on_before_all_are_there(come: Come, address: str) -> None:
    early = [come(1), come(0)]
    with connected(address):
        assert not any(future.done() for future in early)
    for future in [*early, come(2)]:
        assert future.result(LONG_SEC) is None
    # JAX's own service takes the same place next.
    with socket.create_server(("", int(address.rpartition(":")[2]))):
        pass


def test_all_hear_who_did_not_come(come: Come, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = [come(0, SHORT_SEC), come(1)]
    line = (
        "--distributed: of 3 processes, 1 did not come within 0.0167 minutes: 2; there were 0 on "
        "host-0, 1 on host-1; start all of them, or wait longer by --meeting_minutes"
    )
    for future in waiting:
        with pytest.raises(UserError) as raised:
            future.result(LONG_SEC)
        assert str(raised.value) == line
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "t1v-0,t1v-1,t1v-2")
    with pytest.raises(UserError, match=r"minutes: 1 \(t1v-1\), 2 \(t1v-2\); there were 0 on"):
        come(0, 0.1).result(LONG_SEC)


def test_without_process_0_the_others_say_so(come: Come, address: str) -> None:
    with pytest.raises(UserError, match=f"process 2 of 3, on host-2, did not reach .* {address}"):
        come(2, 0.1).result(LONG_SEC)


def test_two_of_one_number_are_named(come: Come) -> None:
    waiting = [come(0), come(1), come(1)]
    for future in waiting:
        with pytest.raises(UserError, match="on host-1 and host-1, are both number 1 of 3"):
            future.result(LONG_SEC)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"index": 9}\n', b""])
def test_strangers_do_not_count(come: Come, address: str, said: bytes) -> None:
    first = come(0)
    with connected(address) as stranger:
        stranger.sendall(said)
        others = [come(1), come(2)]
        for future in [first, *others]:
            assert future.result(LONG_SEC) is None


def test_one_that_came_and_was_killed_is_missing(come: Come, address: str) -> None:
    first = come(0, 3 * SHORT_SEC)
    with connected(address) as killed:
        killed.sendall(b'{"index": 2, "host": "host-2"}\n')
    come(1)
    with pytest.raises(UserError, match=r"1 did not come within 0\.05 minutes: 2; there were"):
        first.result(LONG_SEC)


def test_a_place_that_is_taken_is_one_clear_line(come: Come, address: str) -> None:
    with (
        socket.create_server(("", int(address.rpartition(":")[2]))),
        pytest.raises(UserError, match=r"cannot listen at port .* by JAX_COORDINATOR_PORT"),
    ):
        come(0).result(LONG_SEC)


# ------------------------------------------------------------------------------ with JAX itself
def set_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in jobs.slurm(1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "1234")


def test_jax_still_tells_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a version of JAX has changed what `find_job` asks."""
    assert find_job(1.0) is None
    set_slurm(monkeypatch)
    assert find_job(1.0) == Job("localhost:1234", 2, 1, (1,))
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "elsewhere:99")
    monkeypatch.setenv("JAX_LOCAL_DEVICE_IDS", "0,1")
    assert find_job(1.0) == Job("elsewhere:99", 2, 1, None)


def test_where_jax_does_not_tell_it_meets_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    set_slurm(monkeypatch)
    monkeypatch.delattr("jax._src.clusters.ClusterEnv.auto_detect_unset_distributed_params")
    assert find_job(1.0) is None
    asked: list[dict[str, int]] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: asked.append(given))
    monkeypatch.setattr(meeting, "wait_for_all", lambda *_: pytest.fail("not to be asked"))
    distributed.start(True, meeting_minutes=2)
    assert asked == [{"initialization_timeout": 120}]


MEETS = [
    sys.executable,
    "-c",
    "import jax, sys; from absl import flags; from vssflow_jax import cli; "
    "from vssflow_jax.parallel import distributed; distributed.define_flags(); "
    "cli.run(lambda _: (distributed.start_by_flags(), print('met', jax.process_count())))",
]


def test_a_process_that_is_started_late_is_waited_for(tmp_path: Path) -> None:
    job = jobs.launch(MEETS, tmp_path / "late", late_sec=3.0)
    assert job.wait() == [0, 0], job.printed
    assert all("met 2" in printed for printed in job.printed)


@pytest.mark.parametrize("there", [0, 1])
def test_a_process_that_is_not_started_ends_the_other(tmp_path: Path, there: int) -> None:
    job = jobs.launch([*MEETS, "--meeting_minutes=0.05"], tmp_path / "lone", indices=[there])
    assert job.wait() == [cli.PROCESS_LOST], job.printed
    (line,) = job.printed[0].splitlines()
    expected = ("of 2 processes, 1 did not come", "process 1 of 2, on .* did not reach process 0")
    assert re.match(f"error: --distributed: {expected[there]}", line)
