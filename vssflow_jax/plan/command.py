"""What each sharding strategy would cost on a pod, before anyone has the pod:

python -m vssflow_jax.plan --config=configs/vssflow.py:base --topology=v5e:2x4 \\
    --strategies=dp,fsdp,tp --out=runs/plan

The train step is compiled for the topology, with no device of it, and looked at. `cpu:8` simulates
devices and runs the step too, `local` runs it on the devices that there are; `2xv5e:2x4` is two
slices, with the data centre's network between them. The folder gets
`plan.md` to read, `plan.png` to look at and `plan.json` with all figures.

With `--search` each topology of `--topology=v5e:2x4,v5e:4x4` gets the fastest way found to train on
it, in `search.md` and `search.json`: strategy, mesh, rematerialisation and attention, at the batch
that fills the chips.

With `--save_step=FILE` nothing is planned: the step is compiled as training compiles it, by the
batch size of the config, and written for `run_train.py --config.train.compiled_step=FILE`.
"""

import json
from collections.abc import Sequence

import ml_collections
from absl import flags
from ml_collections import config_flags

from vssflow_jax import cli
from vssflow_jax.config import check as check_config
from vssflow_jax.models.attention import IMPLEMENTATIONS
from vssflow_jax.models.transformer import REMAT
from vssflow_jax.parallel import chips
from vssflow_jax.parallel.sharding import STRATEGIES
from vssflow_jax.plan import picture, report, search
from vssflow_jax.plan.cache import Cache
from vssflow_jax.plan.jobs import Case, Planner
from vssflow_jax.plan.programs import changed
from vssflow_jax.plan.save_step import save_step
from vssflow_jax.plan.tasks import MEASURED, PARTS
from vssflow_jax.plan.topologies import Topology
from vssflow_jax.run.run_config import resolved_values
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, write_atomically

# Fields of the config that a search chooses, and what to do instead of giving them.
_SEARCHED_FIELDS = {
    "train.batch_size": "it finds the batch that fills the chips; leave it out",
    "sharding.strategy": "give --strategies",
    "model.transformer.attention": "give --attentions",
    "model.transformer.remat": "give --remats",
}


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
    _check_network(topology, dcn_bytes_per_sec)
    check_config(config)
    _check_strategies(config, strategies)
    cases = [
        Case(changed(config, sharding__strategy=strategy), clips_per_device)
        for strategy in strategies
    ]
    planner = Planner(topology, cache, dcn_bytes_per_sec)
    found = planner.find(cases, PARTS + MEASURED * topology.runs)
    found = planner.with_schedules(cases, found)
    return [
        report.summarise(strategy, one, dcn_bytes_per_sec)
        for strategy, one in zip(strategies, found, strict=True)
    ]


def main(argv: list[str]) -> None:
    del argv
    given = flags.FLAGS
    if given.search:
        _search(given)
        return
    for name in ("remats", "attentions"):
        if given[name].present:
            raise UserError(f"--{name} goes with --search; without it, the config says which")
    if "," in given.topology:
        raise UserError(f"--topology={given.topology} names several, which goes with --search")
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


def _search(given: flags.FlagValues) -> None:
    """Search for each topology; write and print what is best."""
    topologies = [Topology.parse(name) for name in given.topology.split(",")]
    dcn = given.dcn_gb_per_sec * 1e9
    _check_search(given)
    for topology in topologies:
        if not topology.chip:
            known = ", ".join(chip.name for chip in chips.CHIPS if chip.cycles_per_sec)
            raise UserError(
                f"--search is of TPUs whose speed is known, {known}; --topology has "
                f"'{topology.name}'"
            )
        _check_network(topology, dcn)
    _check_strategies(given.config, given.strategies)
    out, cache = as_path(given.out), Cache(as_path(given.cache).expanduser())
    out.mkdir(parents=True, exist_ok=True)
    name = config_flags.get_config_filename(flags.FLAGS["config"])
    title = f"Search of {name}"
    best, tried = list[report.Row](), list[report.Row]()
    for topology in topologies:
        planner = Planner(topology, cache, dcn)
        chosen = (given.strategies, given.attentions, given.remats)
        found, others = search.search(given.config, planner, *chosen)
        best.append(found)
        tried += others
        # What is found is kept though a later topology may have no room.
        text = search.markdown(title, best, tried)
        config = resolved_values(given.config)
        content = {"title": title, "config": config, "best": best, "tried": tried}
        write_atomically(out / "search.md", text)
        write_atomically(out / "search.json", json.dumps(content, indent=2) + "\n")
    print(text)


def _check_search(given: flags.FlagValues) -> None:
    """Check the flags that a search has of its own or does not go with.

    Raises:
      UserError: one is bad.
    """
    for name, known in (("attentions", IMPLEMENTATIONS), ("remats", REMAT)):
        for value in getattr(given, name):
            if value not in known:
                raise UserError(f"--{name} has '{value}'; choose from: {', '.join(known)}")
        if not getattr(given, name):
            raise UserError(f"--{name} is empty; choose from: {', '.join(known)}")
    if given.save_step:
        raise UserError("--search and --save_step are two things; give one of them")
    if given["clips_per_device"].present:
        raise UserError("--search finds the batch by itself; leave out --clips_per_device")
    fixed = {*_SEARCHED_FIELDS} & {*cli.overridden(given)}
    for field in sorted(fixed):
        raise UserError(f"--search does not keep --config.{field}; {_SEARCHED_FIELDS[field]}")


def _check_network(topology: Topology, dcn_bytes_per_sec: float) -> None:
    chip = topology.chip
    if topology.slices > 1 and chip and not (dcn_bytes_per_sec or chip.dcn_bytes_per_sec):
        raise UserError(
            f"--topology is '{topology.name}', but how fast the network between slices of "
            f"{chip.name} is, is not known; give --dcn_gb_per_sec"
        )


def _check_strategies(config: ml_collections.ConfigDict, strategies: Sequence[str]) -> None:
    known = STRATEGIES | config.sharding.strategies.to_dict()
    for strategy in strategies:
        if strategy not in known:
            raise UserError(
                f"--strategies has '{strategy}'; choose from: {', '.join(known)}, or add your own "
                "to sharding.strategies"
            )


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
    flags.DEFINE_string("topology", "v5e:2x4", "what to plan for; of a search, one or several")
    flags.DEFINE_list("strategies", list(STRATEGIES), "of sharding")
    flags.DEFINE_bool("search", False, "find the fastest way to train on each topology")
    flags.DEFINE_list("remats", ["auto", "none", "full"], "rematerialisations that a search tries")
    flags.DEFINE_list("attentions", ["auto", "xla"], "ways to attend that a search tries")
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
