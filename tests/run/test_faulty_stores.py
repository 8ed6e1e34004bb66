"""Rows and checkpoints on stores that fail now and then, are slow, or take nothing."""

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests import buckets, tiny
from tests.faulty import Faults, before
from vssflow_jax.utils.files import as_path

STEPS = (2, 4, 6)
# What a run does with its store, without training.
SCRIPT = """
import sys
from vssflow_jax import cli

def main(argv):
    import jax.numpy as jnp
    from vssflow_jax.run.checkpoint import Checkpoints
    from vssflow_jax.run.workdir import MetricsLog
    from vssflow_jax.utils.files import as_path, write_atomically
    workdir = as_path(argv[1])
    with Checkpoints(workdir, keep=2) as checkpoints, MetricsLog(workdir) as log:
        for step in range(1, 7):
            log.write({"step": step})
            write_atomically(workdir / f"{step}.txt", "x" * step)
            assert (workdir / f"{step}.txt").read_text() == "x" * step
            if step % 2 == 0:
                log.put()
                checkpoints.save(step, {"w": jnp.full(100_000, step)}, {"at": step}, {})
    with Checkpoints(workdir) as checkpoints:
        state, progress = checkpoints.restore({"w": jnp.zeros(100_000, jnp.int32)})
        assert (int(state["w"].sum()), progress["at"]) == (600_000, 6)

cli.run(main, "workdir")
"""


@pytest.fixture(params=buckets.SCHEMES)
def scheme(request: pytest.FixtureRequest, stores_there: None) -> Any:
    return request.param


def use(scheme: str, faults: Faults) -> tuple[Any, Path]:
    """Run the script on a faulty store."""
    workdir = f"{scheme}://{buckets.BUCKET}/{uuid.uuid4().hex}"
    with before(scheme, faults) as variables:
        done = tiny.run([sys.executable, "-c", SCRIPT, workdir], variables)
    return done, as_path(workdir)


def assert_all_there(workdir: Path) -> None:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 7))
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["4", "6"]


def test_one_request_in_twenty_fails(scheme: str):
    faults = Faults(every=20)
    done, workdir = use(scheme, faults)
    assert done.returncode == 0, done.stderr
    assert faults.failed
    assert_all_there(workdir)


def test_a_store_is_slow(scheme: str):
    done, workdir = use(scheme, Faults(delay_sec=0.1))
    assert done.returncode == 0, done.stderr
    assert_all_there(workdir)


def test_a_store_takes_nothing(scheme: str):
    done, workdir = use(scheme, Faults(denied=True))
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert str(workdir) in line
    assert "Traceback" not in done.stderr
    assert not workdir.exists()
