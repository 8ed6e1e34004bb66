"""Checkpoints in buckets, against emulators; and whether orbax still is what we take it for."""

import uuid
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

from tests import buckets
from vssflow_jax.run import s3_checkpoints
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, remove_tree

COMMITTED = "commit_success.txt"


@pytest.fixture(params=buckets.SCHEMES)
def workdir(request: pytest.FixtureRequest, stores_there: None) -> Path:
    return as_path(f"{request.param}://{buckets.BUCKET}/{uuid.uuid4().hex}")


def state_at(step: int) -> dict[str, Any]:
    rng = np.random.default_rng(step)
    return {"step": jnp.int32(step), "w": jnp.asarray(rng.normal(size=(300, 7)), jnp.float32)}


def abstract() -> dict[str, Any]:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
        state_at(0),
    )


def write(workdir: Path, *steps: int) -> None:
    with Checkpoints(workdir, keep=2) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_at(step), {"at": step}, {"seed": 0})


def assert_is(found: tuple[Any, dict[str, Any]], step: int) -> None:
    jax.tree.map(np.testing.assert_array_equal, found[0], state_at(step))
    assert found[1] == {"at": step}


def test_checkpoints_come_back_and_old_ones_go(workdir: Path):
    with pytest.raises(UserError, match="no checkpoint in"):
        Checkpoints(workdir)
    write(workdir, 2, 4, 6)
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["4", "6"]
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.latest == 6
        assert_is(checkpoints.restore(abstract()), 6)
        assert_is(checkpoints.restore(abstract(), 4), 4)
    assert not Path(f"{workdir.parts[0]}").exists(), "a folder of this machine"


def test_one_that_was_not_finished_is_none(workdir: Path):
    write(workdir, 2, 4)
    (workdir / "checkpoints" / "4" / COMMITTED).unlink()
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.latest == 2
        assert_is(checkpoints.restore(abstract()), 2)
    write(workdir, 4)  # over what is left
    with Checkpoints(workdir) as checkpoints:
        assert_is(checkpoints.restore(abstract()), 4)


def test_a_damaged_one_is_set_aside(workdir: Path, capsys):
    write(workdir, 2, 4)
    remove_tree(workdir / "checkpoints" / "4" / "state" / "d")
    (workdir / "checkpoints" / "4" / "progress" / "metadata").unlink()
    with Checkpoints(workdir, keep=2) as checkpoints:
        assert_is(checkpoints.resume(abstract()), 2)
    assert "going on from step 2" in capsys.readouterr().err
    assert (workdir / "damaged" / "4" / "config").is_dir()
    assert not (workdir / "checkpoints" / "4").exists()


# ------------------------------------------------------------- the inside of orbax that is changed
def test_orbax_asks_the_three_functions_wherever_it_writes(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://here:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_REGION", raising=False)
    s3_checkpoints.enable()
    for use_ocdbt in (True, False):
        spec = tensorstore_utils.build_kvstore_tspec(
            str(epath.Path("s3://bucket/run/state")), "w", use_ocdbt=use_ocdbt
        )
        base = spec["base"] if use_ocdbt else spec
        assert base["driver"] == "s3"
        assert base["bucket"] == "bucket"
        assert base["path"].startswith("run/state")
        assert (base["endpoint"], base["aws_region"]) == ("http://here:1", "eu-west-1")


def test_orbax_still_knows_the_rest():
    s3_checkpoints.enable()
    assert gcs_utils.get_kvstore_for_gcs("gs://bucket/run")["driver"] == "gcs"
    assert tensorstore_utils._normalize_path("gs://bucket/run/") == "gs://bucket/run"
    assert tensorstore_utils._normalize_path("/a//s3:/b/") == "/a/s3:/b"
    assert not tensorstore_utils._use_gcs_driver("/a")
    assert tensorstore_utils._use_gcs_driver("gs://a")


def test_a_region_is_named_where_the_environment_or_another_store_does(monkeypatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    assert "aws_region" not in s3_checkpoints.spec("s3://bucket/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store")
    assert s3_checkpoints.spec("s3://bucket/x")["aws_region"] == "us-east-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert s3_checkpoints.spec("s3://bucket/x")["aws_region"] == "eu-west-1"
