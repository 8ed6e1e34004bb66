"""A Beam runner writes what the processes of one machine write (`beam` extra)."""

import functools
from pathlib import Path

import pytest

from data import beam, shards
from tests.data.test_shards import all_bytes, contents, make
from vssflow_jax.utils import optional
from vssflow_jax.utils.errors import UserError

DIRECT = "--runner=DirectRunner --direct_num_workers=1"


def test_beam_writes_the_same_bytes(tmp_path: Path):
    pytest.importorskip("apache_beam")
    of = contents(bad=(3,))
    run = functools.partial(beam.run, options=DIRECT)
    made = shards.build(tmp_path / "beam", of, run, max_rejected=0.1, clips_per_shard=2)
    assert made.partition("\n")[0] == "10 clips = 9 written + 1 rejected (1 bad number)"
    make(tmp_path / "here", of, max_rejected=0.1)
    assert all_bytes(tmp_path / "beam") == all_bytes(tmp_path / "here")


def test_workers_with_a_disk_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("apache_beam")
    monkeypatch.setattr(beam, "write_shard", repr)
    with pytest.raises(UserError, match="Beam workers did not write it; choose an --out that they"):
        shards.build(tmp_path, contents(), functools.partial(beam.run, options=DIRECT))


def test_without_beam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"'apache_beam' is not installed: run .*\[beam\]"):
        shards.build(tmp_path, contents(), functools.partial(beam.run, options=DIRECT))
