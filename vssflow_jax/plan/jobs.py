"""The parts of plans, found side by side in processes of their own or in the cache."""

import dataclasses
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import ml_collections
import tqdm

from vssflow_jax.parallel import chips
from vssflow_jax.plan import roofline
from vssflow_jax.plan.cache import Cache
from vssflow_jax.plan.tasks import Found, Job
from vssflow_jax.plan.topologies import LOCAL, Topology


@dataclasses.dataclass(frozen=True)
class Case:
    """A config to plan, with its strategy.

    Attributes:
      config: the config.
      clips_per_device: clips of a batch, on average; None: the batch is `train.batch_size`.
    """

    config: ml_collections.ConfigDict
    clips_per_device: int | None


@dataclasses.dataclass(frozen=True)
class Planner:
    """Finds what there is to say of cases.

    Attributes:
      topology: topology to plan for.
      cache: earlier results.
      dcn_bytes_per_sec: what a chip sends to other slices; 0: what the table says.
    """

    topology: Topology
    cache: Cache
    dcn_bytes_per_sec: float = 0.0

    def find(self, cases: Sequence[Case], tasks: Sequence[str]) -> list[Found]:
        """What the tasks find of each case; "error" says why there is nothing."""
        return self._merged(
            cases, [(index, task, {}) for index in range(len(cases)) for task in tasks]
        )

    def with_schedules(self, cases: Sequence[Case], found: Sequence[Found]) -> list[Found]:
        """What was found, and the schedules of what fits on chips whose clock is known."""
        wanted = []
        for index, one in enumerate(found):
            chip = None if "error" in one else self.chip(one)
            if chip and chip.cycles_per_sec and one["fits"]:
                work = roofline.work(one["totals"], one["model_flops"], chip)
                arguments = {
                    "work_sec": max(work.values()),
                    "dcn_bytes_per_sec": chip.dcn_bytes_per_sec or 0.0,
                }
                wanted.append((index, "schedule", arguments))
        schedules = self._merged(cases, wanted)
        return [one | schedule for one, schedule in zip(found, schedules, strict=True)]

    def chip(self, found: Found) -> chips.Chip | None:
        """The chip that something was found of, with the network between slices that was given."""
        chip = chips.find(found["device_kind"])
        if chip and self.dcn_bytes_per_sec:
            return dataclasses.replace(chip, dcn_bytes_per_sec=self.dcn_bytes_per_sec)
        return chip

    def _merged(
        self, cases: Sequence[Case], wanted: Sequence[tuple[int, str, Mapping[str, float]]]
    ) -> list[Found]:
        """What each case's tasks find, by its index, with the arguments of each task."""
        jobs = {
            index: Job(task, cases[case].config, self.topology, cases[case].clips_per_device, given)
            for index, (case, task, given) in enumerate(wanted)
        }
        found: list[Found] = [{} for _ in cases]
        if not jobs:
            return found
        for index, result in self._run(jobs):
            found[wanted[index][0]] |= result
        return found

    def _run(self, jobs: Mapping[int, Job]) -> Iterator[tuple[int, Found]]:
        """The result of each job as it comes, from the cache or from a process of its own."""
        bar = tqdm.tqdm(total=len(jobs), desc=f"plan {self.topology.name}", unit="part")
        missing = {}
        for index, job in jobs.items():
            # What is timed is timed anew.
            known = None if self.topology.runs else self.cache.get(job.key)
            if known is None:
                missing[index] = job
            else:
                bar.update()
                yield index, known
        # Processes of their own, as one chooses its devices once; side by side where nothing is
        # timed.
        cores = len(os.sched_getaffinity(0))
        workers = 1 if self.topology.runs else min(len(missing), cores)
        # A device counts the peak of its memory over the life of a process.
        jobs_each = 1 if self.topology.name == LOCAL else None
        spawn = multiprocessing.get_context("spawn")
        with (
            bar,
            ProcessPoolExecutor(
                max(1, workers),
                spawn,
                initializer=self.topology.prepare,
                max_tasks_per_child=jobs_each,
            ) as pool,
        ):
            running = {pool.submit(job.run): index for index, job in missing.items()}
            for future in as_completed(running):
                index, result = running[future], future.result()
                job = missing[index]
                if not self.topology.runs:
                    self.cache.put(job.key, result)
                bar.set_postfix_str(f"{job.strategy} {job.task}")
                bar.update()
                yield index, result
