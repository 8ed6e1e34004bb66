"""The fastest way to train on a topology: strategy, mesh, attention, rematerialisation, batch.

One thing is varied at a time, from the best so far: strategies on their own meshes, then meshes of
the best strategy, then attentions, then rematerialisation. So not all combinations are tried. Where
no strategy has room for one clip a chip, all are tried again with the next rematerialisation.

Each candidate costs four compiles with little effort: two batches, whose memory lies on a line that
says how many clips fill a chip, and two and three blocks with so many clips, which say how long a
step is. Best is what gets through most examples a second by the roofline, with nothing of the
networks hidden. The best candidate's batch is then compiled and, if it does not fit after all, made
smaller, and its schedule is looked at: three more compiles, one of them with full effort.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections

from vssflow_jax.config import check as check_config
from vssflow_jax.parallel.sharding import find_strategy
from vssflow_jax.plan import report
from vssflow_jax.plan.jobs import Case, Planner
from vssflow_jax.plan.programs import changed
from vssflow_jax.plan.tasks import PARTS, Found
from vssflow_jax.utils.errors import UserError

START_CLIPS = 8  # a chip: the first point of the line
GROUPS = (2, 4, 8, 16)  # sizes of the axis that a strategy has groups on
_TRIES = 4  # batches of the best candidate that are compiled
_UNKNOWN = f"{START_CLIPS} clips a chip do not fit, and the compiler does not say how many would"
_FEWER = 32  # of as many clips one is left out, where a batch turns out too large; then two, four


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to train.

    Attributes:
      strategy: name of the strategy of sharding.
      group: axis of the mesh and its size, which are not as the config and strategy have it.
      attention: one of `IMPLEMENTATIONS`.
      remat: one of `REMAT`.
    """

    strategy: str
    group: tuple[str, int] | None
    attention: str
    remat: str

    def apply(self, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
        """The config that trains so."""
        mesh = {f"sharding__mesh__{self.group[0]}": self.group[1]} if self.group else {}
        return changed(
            config,
            sharding__strategy=self.strategy,
            model__transformer__attention=self.attention,
            model__transformer__remat=self.remat,
            **mesh,
        )


def search(
    config: ml_collections.ConfigDict,
    planner: Planner,
    strategies: Sequence[str],
    attentions: Sequence[str],
    remats: Sequence[str],
) -> tuple[report.Row, list[report.Row]]:
    """The best way to train on a topology, and all that were tried.

    Args:
      config: config of the run; its batch size does not count.
      planner: of the topology.
      strategies: strategies of sharding to choose from.
      attentions: ways to compute attention to choose from, the first to begin with.
      remats: rematerialisations to choose from, the first to begin with.

    Returns:
      Rows of a plan, with `attention`, `remat`, `topology` and `clips_per_device` too.

    Raises:
      UserError: a bad config, or nothing fits.
    """
    check_config(config)
    return _Search(config, planner).run(strategies, attentions, remats)


@dataclasses.dataclass
class _Search:
    config: ml_collections.ConfigDict
    planner: Planner
    tried: dict[Candidate, report.Row] = dataclasses.field(default_factory=dict)

    def run(
        self, strategies: Sequence[str], attentions: Sequence[str], remats: Sequence[str]
    ) -> tuple[report.Row, list[report.Row]]:
        for remat in remats:
            self._try(Candidate(strategy, None, attentions[0], remat) for strategy in strategies)
            if self._fitting():
                break
        else:
            first, row = next(iter(self.tried.items()))
            raise UserError(
                f"no strategy of {', '.join(strategies)} has room for a clip a chip on "
                f"{self.planner.topology.name}; {first.strategy}: "
                f"{row.get('error', 'one clip does not fit')}"
            )
        self._try(self._other_meshes(self._best()))
        self._try(dataclasses.replace(self._best(), attention=one) for one in attentions)
        self._try(dataclasses.replace(self._best(), remat=one) for one in remats)
        while not (verified := self._verified(best := self._best())):
            self.tried[best] = {"error": "its batch does not fit"} | self._words(best)
        return verified, [*self.tried.values()]

    def _try(self, candidates: Iterator[Candidate]) -> None:
        """Find the largest batch of candidates that are new, and how long a step of it is."""
        new = [one for one in dict.fromkeys(candidates) if one not in self.tried]
        cases = [Case(one.apply(self.config), START_CLIPS) for one in new]
        memories = self.planner.find(cases, PARTS[:1])
        clips = [memory.get("largest_clips_per_device") or 0 for memory in memories]
        rooms = [index for index, largest in enumerate(clips) if largest]
        filled = [Case(cases[index].config, clips[index]) for index in rooms]
        totals = dict(zip(rooms, self.planner.find(filled, PARTS[1:]), strict=True))
        for index, candidate in enumerate(new):
            found = memories[index] | totals.get(index, {})
            if index in totals and "error" not in found:
                found = _of_batch(found, clips[index])
            elif "error" not in found:
                unknown = found["largest_clips_per_device"] is None
                found = {"error": _UNKNOWN if unknown else "not one clip a chip fits"}
            self.tried[candidate] = self._row(candidate, found)

    def _verified(self, best: Candidate) -> report.Row | None:
        """The row of a candidate whose batch was compiled, and its schedule; None if none fits."""
        config, clips = best.apply(self.config), self.tried[best]["clips_per_device"]
        for attempt in range(_TRIES):
            case = Case(config, clips)
            found = self.planner.with_schedules([case], self.planner.find([case], PARTS))[0]
            if "schedule" in found:
                return self._row(best, found)
            # Too large for the compiler with all effort, or with little, which may say by how much.
            smaller = clips - max(1, clips // _FEWER) * 2**attempt
            largest = None if found.get("fits") else found.get("largest_clips_per_device")
            clips = smaller if largest is None else min(smaller, largest)
            if clips < 1:
                return None
        return None

    def _row(self, candidate: Candidate, found: Found) -> report.Row:
        row = report.summarise(candidate.strategy, found, self.planner.dcn_bytes_per_sec)
        if "error" not in row:
            row["clips_per_device"] = row["clips"] // row["devices"]
        return row | self._words(candidate)

    def _words(self, candidate: Candidate) -> dict[str, Any]:
        return {
            "topology": self.planner.topology.name,
            "strategy": candidate.strategy,
            "group": "x".join(map(str, candidate.group or ())),
            "attention": candidate.attention,
            "remat": candidate.remat,
        }

    def _fitting(self) -> list[Candidate]:
        return [one for one, row in self.tried.items() if "error" not in row]

    def _best(self) -> Candidate:
        """The candidate that gets through most examples a second.

        Raises:
          UserError: nothing fits.
        """
        fitting = self._fitting()
        if not fitting:
            raise UserError(f"nothing that was tried fits {self.planner.topology.name}")
        return max(fitting, key=lambda one: self.tried[one]["estimate"]["examples_per_sec"])

    def _other_meshes(self, best: Candidate) -> Iterator[Candidate]:
        """The candidate with other sizes of the axis that its strategy has groups on."""
        row = self.tried[best]
        in_slice = row["devices"] // row["slices"]
        strategy = find_strategy(best.apply(self.config).sharding)
        for axis, size in strategy.mesh.items():
            for group in GROUPS:
                now = row["mesh"].get(axis, 1)
                if size != -1 and group != now and group < in_slice and in_slice % group == 0:
                    yield dataclasses.replace(best, group=(axis, group))


def _of_batch(found: Mapping[str, Any], clips_per_device: int) -> Found:
    """What was found of a batch, as it is of one that has so many clips a chip."""
    clips = clips_per_device * found["devices"]
    return {
        **found,
        "clips": clips,
        "model_flops": found["model_flops"] * clips / found["clips"],
        "memory": {**dict.fromkeys(found["memory"]), "peak": None},
        "fits": None,
    }


def markdown(title: str, best: Sequence[report.Row], tried: Sequence[report.Row]) -> str:
    """The best of each topology as a table, then all that were tried."""
    text = [f"# {title}", report.search_table(best), report.SEARCH_WORDS]
    planned = [row for row in tried if "error" not in row]
    text += ["## All that were tried", report.search_table(planned)]
    impossible = [
        f"- {row['topology']} `{row['strategy']}` {row['group']}, {row['attention']}, "
        f"{row['remat']}: {row['error']}"
        for row in tried
        if "error" in row
    ]
    if impossible:
        text += ["## Not possible", "\n".join(impossible)]
    return "\n\n".join(part.strip() for part in text) + "\n"
