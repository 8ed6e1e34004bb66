"""Meshes over slices: on paper, and by two processes that stand for two slices."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import pytest

from tests import tiny
from tests.jobs import PROCESSES, launch
from tests.restored import SMALLER
from vssflow_jax import cli
from vssflow_jax.parallel import slices
from vssflow_jax.parallel.sharding import MeshRules, make_mesh_rules
from vssflow_jax.run import workdir as run_files
from vssflow_jax.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class Device:
    """What a mesh asks of a device."""

    id: int
    process_index: int
    slice_index: int
    coords: tuple[int, int, int]
    core_on_chip: int = 0
    platform: str = "tpu"
    device_kind: str = "made up"


def devices(num_slices: int, each: int, processes_each: int = 1, **kind: str) -> Sequence[Any]:
    """Devices in the order of a job that does not start slice by slice."""
    found = [
        Device(s * each + i, s * processes_each + i * processes_each // each, s, (i, 0, 0), **kind)
        for s in range(num_slices)
        for i in range(each)
    ]
    return sorted(found, key=lambda device: (device.id % each, device.id))


def rules(strategy: str, given: Sequence[Any], *, ask: bool = False, **mesh: int) -> MeshRules:
    section = tiny.sharding_config(strategy, **mesh)
    section.weights_across_slices = ask
    return make_mesh_rules(section, given)


def slices_along(mesh_rules: MeshRules, axis: str, attribute: str = "slice_index") -> list[int]:
    """The slices that a line of devices along an axis goes through, repetitions left out."""
    mesh = mesh_rules.mesh
    line = np.moveaxis(mesh.devices, mesh.axis_names.index(axis), 0).reshape(mesh.shape[axis], -1)
    return list(dict.fromkeys(getattr(device, attribute) for device in line[:, 0]))


@pytest.mark.parametrize("num_slices", [2, 3])
@pytest.mark.parametrize(
    ("strategy", "axis"), [("dp", None), ("hsdp", "fsdp"), ("tp", "tensor"), ("hsdp", "tensor")]
)
def test_replicas_lie_across_and_groups_within(num_slices: int, strategy: str, axis: str | None):
    mesh_rules = rules(strategy, devices(num_slices, 8))
    assert mesh_rules.mesh.shape["data"] == num_slices * (8 if strategy == "dp" else 2)
    assert slices_along(mesh_rules, "data") == list(range(num_slices))
    if axis:
        assert len(slices_along(mesh_rules, axis)) == 1
        # Not the first line alone: every group is of one slice.
        groups = np.moveaxis(mesh_rules.mesh.devices, mesh_rules.mesh.axis_names.index(axis), -1)
        for group in groups.reshape(-1, mesh_rules.mesh.shape[axis]):
            assert len({device.slice_index for device in group}) == 1
    everyone = {device.id for device in mesh_rules.mesh.devices.flat}
    assert len(everyone) == num_slices * 8


def test_a_group_is_no_wider_than_a_slice():
    assert dict(rules("hsdp", devices(2, 2)).mesh.shape)["fsdp"] == 2


@pytest.mark.parametrize(
    ("strategy", "mesh"),
    [
        ("fsdp", {}),
        ("fsdp_tp", {}),
        ("sp", {}),
        ("hsdp", {"data": 1, "fsdp": 16}),
        ("tp", {"data": 1, "tensor": -1}),
    ],
)
def test_what_gathers_across_slices_is_refused_unless_asked_for(
    strategy: str, mesh: dict[str, int]
):
    given = devices(2, 8)
    with pytest.raises(UserError) as refusal:
        rules(strategy, given, **mesh)
    assert re.fullmatch(
        rf"sharding\.strategy '{strategy}' with a mesh of data=1 x .* would gather .* between 2 "
        r"slices in every block; take sharding\.strategy=hsdp, or make sharding\.mesh\.data a "
        r"multiple of 2, .* or ask for it by sharding\.weights_across_slices=True",
        str(refusal.value),
    )
    crossing = "tensor" if strategy == "tp" else "fsdp"
    assert slices_along(rules(strategy, given, ask=True, **mesh), crossing) == [0, 1]


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_tp", "sp"])
def test_a_replica_for_each_slice_is_what_to_do_instead(strategy: str):
    mesh_rules = rules(strategy, devices(2, 8), data=2)
    assert slices_along(mesh_rules, "data") == [0, 1]
    assert slices_along(mesh_rules, "fsdp") == [0]


def test_weights_of_an_own_strategy_may_not_lie_on_data_across_slices():
    section = tiny.sharding_config("mine")
    own = {"mine": {"rules": {"embed": "data"}, "mesh": {"data": -1}}}
    section.strategies = ml_collections.ConfigDict(own)
    assert make_mesh_rules(section, devices(1, 8)).mesh.shape["data"] == 8
    with pytest.raises(UserError, match=r"'mine' .* would gather weights .* between 2 slices"):
        make_mesh_rules(section, devices(2, 8))


def test_machines_of_gpus_are_slices_only_if_asked():
    gpus = devices(2, 8, processes_each=8, platform="gpu")
    assert slices.find(0, gpus) == 1
    assert rules("fsdp", gpus).mesh.shape["fsdp"] == 16
    assert slices_along(rules("hsdp", gpus, slices=2), "fsdp") == [0]
    with pytest.raises(UserError, match="between 2 slices"):
        rules("fsdp", gpus, slices=2)


def test_processes_stand_for_slices_where_devices_name_none():
    cpus = [dataclasses.replace(d, slice_index=0) for d in devices(2, 4, platform="cpu")]
    assert slices_along(rules("hsdp", cpus, slices=2), "data", "process_index") == [0, 1]
    assert slices_along(rules("hsdp", cpus, slices=2), "fsdp", "process_index") == [0]


@pytest.mark.parametrize(("given", "num_slices"), [(3, 2), (1, 2), (2, 1)])
def test_a_number_of_slices_that_there_is_not(given: int, num_slices: int):
    line = rf"sharding\.mesh\.slices is {given}, but devices are those of {num_slices} slice"
    with pytest.raises(UserError, match=line):
        slices.find(given, devices(num_slices, 4))


def test_slices_of_unequal_sizes():
    with pytest.raises(UserError, match="the slices have 3, 4 devices"):
        slices.find(0, sorted(devices(2, 4), key=lambda device: device.id)[1:])


# --------------------------------------------------------------------- two processes of four CPUs
def test_two_slices_train_as_one_device_does(demo_data: Path, tmp_path: Path):
    steps = {**SMALLER, "train__steps": 3, "sharding__strategy": "hsdp"}
    command = tiny.command(
        "run_train.py", demo_data, tmp_path / "two", **steps, sharding__mesh__slices=2
    )
    job = launch(command, tmp_path / "two")
    assert job.wait() == [0] * PROCESSES, job.printed
    assert tiny.train(tiny.config(demo_data, **steps), tmp_path / "alone")
    for name in ("loss", "grad_norm"):
        two, alone = (
            [row[name] for row in run_files.read_metrics(tmp_path / run)]
            for run in ("two", "alone")
        )
        np.testing.assert_allclose(two, alone, rtol=1e-5)


def test_fsdp_over_two_slices_is_one_line_of_each_process(demo_data: Path, tmp_path: Path):
    changes = {"sharding__strategy": "fsdp", "sharding__mesh__slices": 2}
    job = launch(tiny.command("run_train.py", demo_data, tmp_path / "run", **changes), tmp_path)
    assert job.wait() == [cli.USER_ERROR] * PROCESSES
    for printed in job.printed:
        (line,) = [line for line in printed.splitlines() if "Gloo" not in line]
        assert line.startswith("error: sharding.strategy 'fsdp' with a mesh of data=1 x fsdp=8")
        assert "take sharding.strategy=hsdp" in line
