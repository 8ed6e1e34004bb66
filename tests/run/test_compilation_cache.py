"""Programs kept in the folder of a run: a second start compiles no step, and trains the same."""

import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from tests import buckets, noise, tiny
from vssflow_jax.run import compilation_cache
from vssflow_jax.run.workdir import read_metrics
from vssflow_jax.utils.files import as_path

HIT = "Persistent compilation cache hit for 'jit_step'"

PROGRAM = """
import sys, jax, jax.numpy as jnp
from vssflow_jax.run import compilation_cache
from vssflow_jax.utils.files import as_path
compilation_cache.keep_in(as_path(sys.argv[1]))
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith("cache_hits")))
print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.eye(3)).sum())
print("hits", sum(hits))
"""


@pytest.fixture
def no_place() -> Iterator[None]:
    """JAX without a place to keep programs in, until the test ends."""
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_enable_xla_caches",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # of a small step
    reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


def test_a_second_start_finds_the_step(
    no_place: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run, without = tmp_path / "run", tmp_path / "without"
    noise.make(tmp_path / "data", v2s=[3.0] * 8, visualtts=[3.0] * 8)
    config = tiny.config(tmp_path / "data", data__source="none", model__transformer__layers=1)
    config.data.mixture.weights.joint = 0.0

    def hits_of_start(steps: int) -> int:
        caplog.clear()
        config.train.steps = steps
        with caplog.at_level(logging.DEBUG, "jax._src.compiler"):
            tiny.train(config, run)
        return sum(HIT in message for message in caplog.messages)

    assert hits_of_start(1) == 0
    (step,) = (run / compilation_cache.FOLDER).glob("jit_step-*")
    assert hits_of_start(2) == 1
    step.write_bytes(step.read_bytes()[:1000])  # as a kill leaves it
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache entry"):
        assert hits_of_start(3) == 0

    jax.config.update("jax_compilation_cache_dir", "")
    tiny.train(config, without)
    assert not (without / compilation_cache.FOLDER).exists()
    assert read_metrics(run) == read_metrics(without)


@pytest.mark.parametrize("scheme", buckets.SCHEMES)
def test_programs_are_kept_in_buckets(stores_there: None, scheme: str, tmp_path: Path):
    run = f"{scheme}://{buckets.BUCKET}/{uuid.uuid4().hex}"
    # The tests have a place of their own, which this does without.
    command = ["env", "-u", "JAX_COMPILATION_CACHE_DIR", sys.executable, "-c", PROGRAM, run]
    printed = [
        subprocess.run(
            command,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(tiny.ROOT),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    (first, _, no_hits), (second, _, hits) = printed
    assert first == second
    assert (int(no_hits), int(hits) > 0) == (0, True)
    assert len(list((as_path(run) / compilation_cache.FOLDER).iterdir())) == int(hits)
    assert not list(tmp_path.iterdir()), "folders of this machine"


def test_where_programs_are_kept(
    no_place: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stores_there: None
):
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        compilation_cache.keep_in(tmp_path)
    assert jax.config.jax_compilation_cache_dir is None, "a folder that is only read"
    compilation_cache.keep_in(tmp_path)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "compiled")
    assert jax.config.jax_persistent_cache_enable_xla_caches
    bucket = as_path(f"gs://{buckets.BUCKET}/{uuid.uuid4().hex}")
    compilation_cache.keep_in(bucket)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "compiled"), "it was said where"
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.keep_in(bucket)
    assert jax.config.jax_compilation_cache_dir == f"{bucket}/compiled"
    assert not jax.config.jax_persistent_cache_enable_xla_caches
