"""Which parts of a plan are asked for, and how they come together, with nothing compiled."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.plan.test_report import found as found_of
from vssflow_jax.plan.cache import Cache
from vssflow_jax.plan.jobs import Case, Planner
from vssflow_jax.plan.tasks import Found, Job
from vssflow_jax.plan.topologies import Topology


@dataclasses.dataclass(frozen=True)
class Recorder(Planner):
    """Notes the jobs, and finds of each its name, last first."""

    jobs: list[Job] = dataclasses.field(default_factory=list)

    def _run(self, jobs: Mapping[int, Job]) -> Iterator[tuple[int, Found]]:
        self.jobs.extend(jobs.values())
        for index in reversed(jobs):
            yield index, {jobs[index].task: jobs[index].strategy}


def recorder(**given: Any) -> Recorder:
    return Recorder(Topology("v5e:2x4"), Cache(Path("unused")), **given)


def cases(*strategies: str) -> list[Case]:
    return [
        Case(tiny.config(Path("unused"), sharding__strategy=strategy), 4) for strategy in strategies
    ]


def test_each_case_gets_what_its_tasks_find():
    assert recorder().find(cases("dp", "tp"), ["memory", "totals"]) == [
        {"memory": "dp", "totals": "dp"},
        {"memory": "tp", "totals": "tp"},
    ]


def test_what_fits_chips_with_a_clock_is_scheduled():
    planner = recorder(dcn_bytes_per_sec=25e9)
    found = [
        found_of(2),
        found_of(2) | {"fits": False},
        found_of(1) | {"device_kind": "NVIDIA H100 80GB HBM3"},
        found_of(1) | {"device_kind": "cpu", "fits": None},
        {"error": "refused"},
    ]
    scheduled = planner.with_schedules(cases("dp", "tp", "fsdp", "hsdp", "sp"), found)
    assert scheduled == [found[0] | {"schedule": "dp"}, *found[1:]]
    (job,) = planner.jobs
    assert (job.task, job.strategy, job.clips_per_device) == ("schedule", "dp", 4)
    # 1 TFLOP at 197 TFLOP/s takes longer than 1 GB at 819 GB/s.
    assert job.arguments == {"work_sec": pytest.approx(1 / 197), "dcn_bytes_per_sec": 25e9}


def test_other_arguments_make_another_result():
    (case,) = cases("dp")
    keys = {
        str(Job("schedule", case.config, Topology("v5e:2x4"), 4, {"work_sec": sec}).key)
        for sec in (1.0, 2.0)
    }
    assert len(keys) == 2
