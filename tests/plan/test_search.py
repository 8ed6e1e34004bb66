"""The search over ways to train, of figures that are made up, and once of a real topology."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.plan.test_report import found as found_of
from vssflow_jax.plan import report, search
from vssflow_jax.plan.cache import Cache
from vssflow_jax.plan.counting import FLOPS
from vssflow_jax.plan.jobs import Case, Planner
from vssflow_jax.plan.tasks import Found
from vssflow_jax.plan.topologies import Topology
from vssflow_jax.utils.errors import UserError

# Of each way: clips a chip that fit, and TFLOP that one clip takes.
WAYS: dict[tuple[str, int, str, str], tuple[int | None, float]] = {
    ("dp", 0, "auto", "none"): (4, 3.0),
    ("hsdp", 0, "auto", "none"): (6, 2.0),
    ("tp", 0, "auto", "none"): (0, 1.0),
    ("sp", 0, "auto", "none"): (None, 1.0),
    ("hsdp", 2, "auto", "none"): (9, 1.5),
    ("hsdp", 2, "xla", "none"): (5, 1.8),
    ("hsdp", 2, "auto", "dots"): (12, 1.4),
    ("hsdp", 2, "auto", "full"): (20, 2.5),
}


@dataclasses.dataclass(frozen=True)
class FakePlanner(Planner):
    """Finds what `WAYS` say.

    Attributes:
      too_many: more clips a chip than these turn out not to fit.
      too_many_as_trained: nor more than these, where the compiler does all it can.
      compiled: what was asked for, in order.
    """

    too_many: int = 100
    too_many_as_trained: int = 100
    compiled: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def find(self, cases: Sequence[Case], tasks: Sequence[str]) -> list[Found]:
        self.compiled.extend(tuple(tasks) for _ in cases)
        return [self._of(case, tasks) for case in cases]

    def with_schedules(self, cases: Sequence[Case], found: Sequence[Found]) -> list[Found]:
        schedule = {
            "work_sec": 1.0,
            "network_sec": 0.02,
            "network_exposed_sec": 0.001,
            "dcn_sec": 0.0,
            "dcn_exposed_sec": 0.0,
        }
        both = {"by_cycles": schedule, "by_roofline": schedule}
        rooms = [
            one["fits"] and self._fits_as_trained(case)
            for case, one in zip(cases, found, strict=True)
        ]
        return [
            {**one, "schedule": both} if room else one
            for one, room in zip(found, rooms, strict=True)
        ]

    def _fits_as_trained(self, case: Case) -> bool:
        return (case.clips_per_device or 0) <= self.too_many_as_trained

    def _of(self, case: Case, tasks: Sequence[str]) -> Found:
        config, clips = case.config, case.clips_per_device
        way = (
            config.sharding.strategy,
            config.sharding.mesh.fsdp,
            config.model.transformer.attention,
            config.model.transformer.remat,
        )
        assert clips
        if way not in WAYS:
            return {"error": "refused"}
        largest, flops = WAYS[way]
        found = found_of(1)
        found |= {"clips": 8 * clips, "model_flops": 1e12 * clips, "fits": clips <= self.too_many}
        found |= {"mesh": {"data": 2, "fsdp": config.sharding.mesh.fsdp or 4}}
        first = clips == search.START_CLIPS
        found["largest_clips_per_device"] = largest if first or clips <= self.too_many else None
        found["totals"] = {**found["totals"], FLOPS: flops * clips * 1e12}
        left_out = {"memory": (), "totals": ("totals",)}
        return {
            name: value
            for name, value in found.items()
            if any((name in left_out[task]) == (task == "totals") for task in tasks)
        }


def searched(*strategies: str, remats: Sequence[str] = ("none", "dots", "full"), **given: Any):
    planner = FakePlanner(Topology("v5e:2x4"), Cache(Path("unused")), **given)
    config = tiny.config(Path("unused"))
    best, tried = search.search(config, planner, strategies, ("auto", "xla"), remats)
    return planner, best, tried


def names(row: report.Row) -> tuple[str, str, str, str]:
    return row["strategy"], row["group"], row["attention"], row["remat"]


def test_one_thing_is_varied_at_a_time():
    planner, best, tried = searched("dp", "hsdp", "tp")
    assert names(best) == ("hsdp", "fsdpx2", "auto", "dots")
    assert [names(row) for row in tried] == [
        ("dp", "", "auto", "none"),
        ("hsdp", "", "auto", "none"),
        ("tp", "", "auto", "none"),
        ("hsdp", "fsdpx2", "auto", "none"),
        ("hsdp", "fsdpx2", "xla", "none"),
        ("hsdp", "fsdpx2", "auto", "dots"),
        ("hsdp", "fsdpx2", "auto", "full"),
    ]
    # Two compiles for the memory of each, two to count what fits; then both of the best.
    assert planner.compiled.count(("memory",)) == 7
    assert planner.compiled.count(("totals",)) == 6
    assert planner.compiled.count(("memory", "totals")) == 1


def test_the_batch_is_the_largest_and_figures_are_of_it():
    _, best, tried = searched("dp", "hsdp", "tp")
    assert best["clips_per_device"] == 12
    assert best["estimate"]["compute_sec"] == pytest.approx(12 * 1.4e12 / 197e12)
    assert best["estimate"]["network_exposed_sec"] == 0.001  # by its schedule
    assert best["memory"]["peak"] == 1e9
    dp = tried[0]
    assert dp["clips_per_device"] == 4
    assert dp["clips"] == 32
    assert dp["model_flops"] == 4e12
    assert dp["memory"]["peak"] is None  # was not compiled
    assert dp["estimate"]["network_exposed_sec"] == dp["estimate"]["network_sec"] > 0


def test_a_batch_that_does_not_fit_after_all_is_made_smaller():
    for limit in ("too_many", "too_many_as_trained"):
        planner, best, _ = searched("hsdp", remats=("none",), **{limit: 7})
        assert best["clips_per_device"] == 6  # of 9: one less, then two less
        assert planner.compiled.count(("memory", "totals")) == 3


def test_where_nothing_fits_more_is_computed_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(WAYS, ("tp", 0, "auto", "full"), (3, 1.0))
    _, best, tried = searched("tp")
    assert names(best) == ("tp", "", "auto", "full")
    errors = [row["error"] for row in tried if "error" in row]
    assert errors[:2] == ["not one clip a chip fits", "refused"]


def test_what_the_compiler_does_not_say_is_not_taken_for_no_room():
    _, _, tried = searched("dp", "sp", remats=("none",))
    assert "the compiler does not say how many would" in tried[1]["error"]


def test_no_room_at_all_is_one_clear_line():
    with pytest.raises(UserError, match=r"no strategy of tp has room .* on v5e:2x4; tp: not one"):
        searched("tp")


def test_the_tables_name_the_best_and_all_that_were_tried():
    _, best, tried = searched("dp", "hsdp", "tp")
    text = search.markdown("Search", [best], tried)
    first, others = text.split("## All that were tried")
    assert "| `hsdp` | v5e:2x4 | data 2xfsdp 2 | dots | auto | 12 | 1.00 |" in first
    assert "| `dp` | v5e:2x4 | data 2xfsdp 4 | none | auto | 4 | - |" in others
    assert "- v5e:2x4 `tp` , auto, none: not one clip a chip fits" in others


def command(out: Path, *given: str) -> list[str]:
    kept = ("train.batch_size", "model.transformer.unroll")
    overrides = {name: value for name, value in tiny.OVERRIDES.items() if name not in kept}
    overrides |= {"clip.duration_sec": 0.56, "model.transformer.layers": 1}
    return [
        *(sys.executable, "-m", "vssflow_jax.plan", f"--out={out}", f"--cache={out}/cache"),
        f"--config={tiny.ROOT / 'configs' / 'demo.py'}",
        *(f"--config.{name}={value}" for name, value in overrides.items()),
        *given,
    ]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--search", "--topology=cpu:8"], "--search is of TPUs whose speed is known, v4, v5e, "),
        (["--search", "--topology=v5e:2x4,gpu:8"], "--topology is 'gpu:8'; give one such as"),
        (["--search", "--remats=some"], "--remats has 'some'; choose from: auto, none, "),
        (["--search", "--attentions="], "--attentions is empty; choose from: auto, xla, "),
        (["--search", "--strategies=zero"], "--strategies has 'zero'; choose from: dp, fsdp"),
        (["--search", "--clips_per_device=4"], "--search finds the batch by itself"),
        (["--search", "--config.train.batch_size=8"], "does not keep --config.train.batch_size"),
        (["--search", "--save_step=step"], "--search and --save_step are two things"),
        (["--remats=full"], "--remats goes with --search"),
        (["--topology=v5e:2x4,v5e:4x4"], "names several, which goes with --search"),
    ],
)
def test_what_does_not_go_together_is_one_clear_line(tmp_path: Path, given: list[str], why: str):
    done = tiny.run(command(tmp_path, *given))
    assert done.returncode == 2
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert why in error


@pytest.mark.nightly  # in short: the searches above, of a planner that is made up
def test_a_search_of_a_real_topology(tmp_path: Path):
    """Of the demo's network with one block, for four chips that are not there."""
    chosen = ("--strategies=dp,tp", "--attentions=xla", "--remats=none")
    arguments = command(tmp_path, "--search", "--topology=v5e:2x2", *chosen)
    done = subprocess.run(arguments, capture_output=True, cwd=tiny.ROOT, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "search.json").read_text())
    (best,) = content["best"]
    assert best["strategy"] == "dp"
    assert best["fits"]
    assert best["memory"]["peak"] > 0.8 * best["memory_limit"]
    for group in ("estimate", "compiler", "cycles"):
        assert 0 < best[group]["mfu"] < 1
    # Two heads do not divide over four chips.
    assert "error" in content["tried"][1]
    assert "| `dp` | v5e:2x2 | data 4 | none | xla |" in done.stdout
