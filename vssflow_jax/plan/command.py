"""What each sharding strategy would cost on a pod, before anyone has the pod:

python -m vssflow_jax.plan --config=configs/vssflow.py:base --topology=v5e:2x4 \\
    --strategies=dp,fsdp,tp --out=runs/plan

The train step is compiled for the topology, with no device of it, and looked at. `cpu:8` simulates
devices and runs the step too, `local` runs it on the devices that there are; `2xv5e:2x4` is two
slices, with the data centre's network between them. The folder gets
`plan.md` to read, `plan.png` to look at and `plan.json` with all figures.

With `--save_step=FILE` nothing is planned: the step is compiled as training compiles it, by the
batch size of the config, and written for `run_train.py --config.train.compiled_step=FILE`.
"""

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import ml_collections
import tqdm
from absl import flags
from ml_collections import config_flags

from vssflow_jax import cli
from vssflow_jax.config import check as check_config
from vssflow_jax.parallel.sharding import STRATEGIES
from vssflow_jax.plan import picture, report
from vssflow_jax.plan.cache import Cache
from vssflow_jax.plan.programs import changed
from vssflow_jax.plan.save_step import save_step
from vssflow_jax.plan.tasks import TASKS, Found, Job
from vssflow_jax.plan.topologies import LOCAL, Topology
from vssflow_jax.run.run_config import resolved_values
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, write_atomically


def plan(
    config: ml_collections.ConfigDict,
    topology: Topology,
    strategies: Sequence[str],
    clips_per_device: int | None,
    cache: Cache,
    dcn_bytes_per_sec: float = 0.0,
) -> list[report.Row]:
    """What is found of each strategy and follows from it; "error" says why there is nothing.

    Args:
      config: the experiment.
      topology: topology to plan for.
      strategies: names of strategies of sharding.
      clips_per_device: clips of a batch, on average; None: the batch is `train.batch_size`.
      cache: earlier results.
      dcn_bytes_per_sec: what a chip sends to other slices; 0: what the table says.

    Raises:
      UserError: bad config, an unknown strategy, or chips in several slices whose network is
        neither given nor in the table.
    """
    chip = topology.chip
    if topology.slices > 1 and chip and not (dcn_bytes_per_sec or chip.dcn_bytes_per_sec):
        raise UserError(
            f"--topology is '{topology.name}', but how fast the network between slices of "
            f"{chip.name} is, is not known; give --dcn_gb_per_sec"
        )
    check_config(config)
    known = STRATEGIES | config.sharding.strategies.to_dict()
    for strategy in strategies:
        if strategy not in known:
            raise UserError(
                f"--strategies has '{strategy}'; choose from: {', '.join(known)}, or add your own "
                "to sharding.strategies"
            )
    jobs = [
        Job(task, changed(config, sharding__strategy=strategy), topology, clips_per_device)
        for strategy in strategies
        for task in TASKS
        if topology.runs or task != "measured"
    ]
    found: dict[str, Found] = {strategy: {} for strategy in strategies}
    for job, result in run_jobs(jobs, topology, cache):
        found[job.strategy] |= result
    return [
        report.summarise(strategy, found[strategy], dcn_bytes_per_sec) for strategy in strategies
    ]


def run_jobs(jobs: Sequence[Job], topology: Topology, cache: Cache) -> Iterator[tuple[Job, Found]]:
    """Each job with its result as it comes, from the cache or from a process of its own."""
    bar = tqdm.tqdm(total=len(jobs), desc="plan", unit="part")
    missing = []
    for job in jobs:
        known = None if topology.runs else cache.get(job.key)  # what is timed is timed anew
        if known is None:
            missing.append(job)
        else:
            bar.update()
            yield job, known
    # Processes of their own, as one chooses its devices once; side by side where nothing is timed.
    workers = 1 if topology.runs else min(len(missing), len(os.sched_getaffinity(0)))
    # A device counts the peak of its memory over the life of a process.
    jobs_each = 1 if topology.name == LOCAL else None
    spawn = multiprocessing.get_context("spawn")
    with (
        bar,
        ProcessPoolExecutor(
            max(1, workers), spawn, initializer=topology.prepare, max_tasks_per_child=jobs_each
        ) as pool,
    ):
        running = {pool.submit(job.run): job for job in missing}
        for future in as_completed(running):
            job, result = running[future], future.result()
            if not topology.runs:
                cache.put(job.key, result)
            bar.set_postfix_str(f"{job.strategy} {job.task}")
            bar.update()
            yield job, result


def main(argv: list[str]) -> None:
    del argv
    given = flags.FLAGS
    topology = Topology.parse(given.topology)
    if given.save_step:
        strategies = given.strategies if given["strategies"].present else []
        clips = given.clips_per_device if given["clips_per_device"].present else None
        save_step(given.config, topology, strategies, clips, as_path(given.save_step).expanduser())
        return
    picture.check()
    clips = _clips_per_device(given)
    out = as_path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    cache = Cache(as_path(given.cache).expanduser())
    dcn = given.dcn_gb_per_sec * 1e9
    rows = plan(given.config, topology, given.strategies, clips, cache, dcn)
    if all("error" in row for row in rows):
        raise UserError(f"no strategy can be planned; {rows[0]['strategy']}: {rows[0]['error']}")
    name = config_flags.get_config_filename(flags.FLAGS["config"])
    title = f"Plan of {name} for {topology.name}"
    text = report.markdown(title, rows)
    content = {"title": title, "config": resolved_values(given.config), "strategies": rows}
    write_atomically(out / "plan.md", text)
    write_atomically(out / "plan.json", json.dumps(content, indent=2) + "\n")
    picture.draw(out / "plan.png", title, rows)
    print(text)


def _clips_per_device(given: flags.FlagValues) -> int | None:
    """What --clips_per_device says, unless the batch is said by the config's own field.

    Raises:
      UserError: both are given.
    """
    if "train.batch_size" not in cli.overridden(given):
        return given.clips_per_device
    if given["clips_per_device"].present:
        raise UserError(
            f"--clips_per_device={given.clips_per_device} and --config.train.batch_size="
            f"{given.config.train.batch_size} both say how large a batch is; give one of them"
        )
    return None


def define_flags() -> None:
    """Define the flags of the command."""
    config_flags.DEFINE_config_file(
        "config", "configs/vssflow.py:base", "experiment", lock_config=True
    )
    flags.DEFINE_string("topology", "v5e:2x4", "what to plan for")
    flags.DEFINE_list("strategies", list(STRATEGIES), "of sharding")
    flags.DEFINE_integer(
        "clips_per_device",
        8,
        "of a batch, on average; without it, --config.train.batch_size counts where that is given",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "dcn_gb_per_sec",
        0.0,
        "GB/s that a chip sends to other slices; 0: what its maker says, 3.125 of v5e, 6.25 of v5p "
        "and 12.5 of v6e (sources in vssflow_jax/parallel/chips.py)",
        lower_bound=0.0,
    )
    flags.DEFINE_string(
        "save_step",
        "",
        "file for the compiled train step of one of --strategies, by default the config's, in "
        "place of a plan",
    )
    flags.DEFINE_string("out", "runs/plan", "folder for plan.md, plan.json and plan.png")
    flags.DEFINE_string("cache", "~/.cache/vssflow_jax/plan", "folder of earlier results")
