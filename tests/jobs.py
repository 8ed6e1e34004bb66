"""Two processes of four simulated devices each that run one command.

They meet as the tasks of a SLURM job do, for which `jax.distributed` asks environment variables.
"""

import dataclasses
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests import tiny

PROCESSES = 2
DEVICES_EACH = 4
PATIENCE_SEC = 240  # more than JAX's own of 100 s, after which it gives a process up


@dataclasses.dataclass(frozen=True)
class Job:
    """Processes that run the same command, and what each prints."""

    workdir: Path
    processes: Sequence[subprocess.Popen[bytes]]
    logs: Sequence[Path]

    def wait_for_row(self, step: int) -> None:
        """Until `metrics.jsonl` has the row of a step."""
        deadline = time.monotonic() + PATIENCE_SEC
        path = self.workdir / "metrics.jsonl"
        while not (path.exists() and f'"step": {step},' in path.read_text()):
            ended = any(process.poll() is not None for process in self.processes)
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"no step {step}: {self.printed}")
            time.sleep(0.01)

    def wait(self) -> list[int]:
        """The exit codes."""
        try:
            return [process.wait(PATIENCE_SEC) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    @property
    def printed(self) -> list[str]:
        return [log.read_text(errors="replace") for log in self.logs]


def launch(
    command: Sequence[str],
    workdir: Path,
    *,
    indices: Sequence[int] = range(PROCESSES),
    late_sec: float = 0.0,
) -> Job:
    """Start a command as two processes.

    Args:
      command: without `--distributed`.
      workdir: folder that the logs lie beside.
      indices: numbers of those that are started.
      late_sec: how long each is started after the one before.
    """
    port = free_port()
    devices = f"--xla_force_host_platform_device_count={DEVICES_EACH}"
    processes, logs = [], []
    for index in indices:
        env = slurm(index) | {"JAX_COORDINATOR_PORT": str(port)}
        env |= {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {devices}"}
        logs.append(workdir.with_name(f"{workdir.name}-{port}-{index}.log"))
        with logs[-1].open("wb") as log:
            process = subprocess.Popen(
                [*command, "--distributed"],
                cwd=tiny.ROOT,
                env=os.environ | env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        processes.append(process)
        time.sleep(late_sec)
    return Job(workdir, processes, logs)


def slurm(index: int) -> dict[str, str]:
    """The environment that SLURM gives to a task of this number."""
    values = {"JOB_ID": 1, "STEP_NODELIST": "localhost", "NTASKS": PROCESSES}
    values |= {"PROCID": index, "LOCALID": index}
    return {f"SLURM_{name}": str(value) for name, value in values.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port
