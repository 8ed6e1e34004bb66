"""Activations that are kept in the memory of the host: the same losses."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests import tiny
from vssflow_jax.models.transformer import OFFLOAD
from vssflow_jax.parallel.sharding import MeshRules
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.utils.errors import UserError

# Losses of three steps of a small model, by FSDP, for each policy that is named.
LOSSES = """
import sys, jax, numpy
from tests import eight_devices
for policy in sys.argv[2:]:
    config = eight_devices.small_config("fsdp", model__transformer__remat=policy)
    *_, losses = eight_devices.train(config, jax.devices(), 3)
    numpy.save(f"{sys.argv[1]}/{policy}.npy", losses)
"""


def test_eight_devices_learn_the_same(tmp_path: Path):
    command = [sys.executable, "-c", LOSSES, str(tmp_path), "none", OFFLOAD]
    done = tiny.run(command, tiny.EIGHT_DEVICES)
    assert done.returncode == 0, done.stderr
    none, offloaded = (np.load(tmp_path / f"{policy}.npy") for policy in ("none", OFFLOAD))
    assert len(none) == 3
    np.testing.assert_allclose(offloaded, none, rtol=1e-6)


def test_devices_that_reach_no_host_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MeshRules, "has_host_memory", False)
    config = tiny.config(Path("unused"), model__transformer__remat=OFFLOAD)
    with pytest.raises(UserError, match=r"does not reach it from devices of kind 'cpu'"):
        Experiment.from_config(config, devices=jax.devices()[:1])
