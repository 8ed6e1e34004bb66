"""Totals from two and three blocks against those of the whole step, and what follows from them."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import ml_collections
import pytest

from tests import tiny
from vssflow_jax.parallel import chips
from vssflow_jax.plan import counting, memory, roofline
from vssflow_jax.plan.collectives import KINDS
from vssflow_jax.plan.programs import Program, changed
from vssflow_jax.plan.topologies import Topology

LAYERS = 4
LINKS = ("", counting.BETWEEN_SLICES)


def test_a_bilinear_function_is_extended_exactly():
    def totals(layers: int, rounds: int) -> counting.Totals:
        assert layers <= 3
        assert rounds <= 2
        return {"a": 5 + 3 * layers + rounds * (7 + 2 * layers)}

    assert counting.extrapolate(totals, 10, 4) == {"a": 5 + 30 + 4 * 27}
    assert counting.extrapolate(totals, 1, 1) == totals(1, 1)


def small_config(**changes: Any) -> ml_collections.ConfigDict:
    small = {"clip__duration_sec": 0.56, "model__transformer__layers": 1}
    return tiny.config(Path("unused"), **small, **changes)


def test_totals_are_those_of_the_whole_step_laid_out():
    config = changed(
        small_config(), model__transformer__layers=LAYERS, model__transformer__unroll=LAYERS
    )
    estimated = counting.count_step(config, jax.devices())
    whole = counting.count(Program.from_config(config, jax.devices()))
    assert estimated[counting.FLOPS] == pytest.approx(whole[counting.FLOPS], rel=0.005)
    # The first and the last block are fused with what lies around them.
    assert estimated[counting.BYTES] == pytest.approx(whole[counting.BYTES], rel=0.04)


def test_what_is_computed_again_is_counted_again():
    def flops(remat: str) -> float:
        changes = {"model__transformer__layers": LAYERS, "model__transformer__remat": remat}
        # A codec that has no folder is left out.
        config = changed(small_config(codec__kind="audioldm_vae"), **changes)
        return counting.count_step(config, jax.devices())[counting.FLOPS]

    kept, again = flops("none"), flops("full")
    assert 1.15 < again / kept < 1.35  # a third more of what blocks compute


def test_accumulating_gradients_is_counted_too():
    at_once, in_two = (
        counting.count_step(small_config(train__accumulation_steps=rounds), jax.devices())
        for rounds in (1, 2)
    )
    assert in_two[counting.FLOPS] == pytest.approx(at_once[counting.FLOPS], rel=0.02)
    assert in_two[counting.BYTES] > at_once[counting.BYTES]  # gradients are added up


def test_tpu_programs_show_how_a_strategy_talks():
    """Compiled for four chips that are not there."""
    topology = Topology.parse("v5e:2x2")
    topology.prepare()

    def counted(strategy: str) -> counting.Totals:
        config = small_config(sharding__strategy=strategy)
        return counting.count(Program.from_config(config, topology.devices()))

    dp, fsdp = counted("dp"), counted("fsdp")
    assert {kind for kind in KINDS if dp[f"{kind}.count"]} == {"all-reduce"}
    assert fsdp["all-gather.count"] > 10
    assert fsdp["reduce-scatter.count"] > 0
    assert fsdp["reduce-scatter.payload_bytes"] > 10 * fsdp["all-reduce.payload_bytes"]
    assert fsdp[counting.FLOPS] == pytest.approx(dp[counting.FLOPS], rel=0.1)


@pytest.mark.slow
def test_gradients_alone_go_between_slices_unless_more_is_asked_for():
    """Compiled for two slices of eight chips that are not there."""
    topology = Topology.parse("2xv5e:2x4")
    topology.prepare()

    def counted(strategy: str, **changes: Any) -> tuple[counting.Totals, int]:
        config = small_config(sharding__strategy=strategy, train__batch_size=16, **changes)
        program = Program.from_config(config, topology.devices())
        # In float32, as gradients are.
        part = memory.device_bytes(program.experiment.abstract_state.params)
        return counting.count(program), part

    def between(totals: counting.Totals, kind: str) -> float:
        return totals[f"{counting.BETWEEN_SLICES}{kind}.payload_bytes"]

    hsdp, part = counted("hsdp")
    # Each is padded to whole tiles, which shows in a network so small.
    assert part < between(hsdp, "all-reduce") < 1.25 * part
    # A small map's gradient may come of the vectors of all clips.
    others = sum(between(hsdp, kind) for kind in KINDS if kind != "all-reduce")
    assert others < 0.01 * part
    assert hsdp["all-gather.count"] > 10

    fsdp, _ = counted("fsdp", sharding__weights_across_slices=True)
    assert between(fsdp, "all-gather") > 10 * between(hsdp, "all-gather")


def test_time_by_what_a_chip_can_do():
    chip = chips.Chip("c", ("C",), 10.0, 1.0, 4.0, 2.0, "")
    nothing = {f"{link}{kind}.wire_bytes": 0.0 for kind in KINDS for link in LINKS}
    totals = {counting.FLOPS: 50.0, counting.BYTES: 12.0, **nothing, "all-gather.wire_bytes": 6.0}
    found = roofline.estimate(totals, 40.0, chip)
    within = {"compute_sec": 5, "memory_sec": 3, "network_sec": 3, "network_exposed_sec": 3}
    assert found == {**within, "dcn_sec": 0, "dcn_exposed_sec": 0, "step_sec": 8}
    # What a kernel computes is not counted, but it is computed.
    assert roofline.estimate(totals, 80.0, chip)["compute_sec"] == 8
    # Between slices.
    totals[f"{counting.BETWEEN_SLICES}all-reduce.wire_bytes"] = 2.0
    network = dataclasses.replace(chip, dcn_bytes_per_sec=0.5)
    between = {"dcn_sec": 4, "dcn_exposed_sec": 4}
    assert roofline.estimate(totals, 40.0, network) == {**within, **between, "step_sec": 12}
    # By a schedule, what it says is exposed.
    schedule = {"work_sec": 5, "network_sec": 2, "network_exposed_sec": 1} | between
    exposed = {**schedule, "compute_sec": 5, "memory_sec": 3, "step_sec": 10}
    del exposed["work_sec"]
    assert roofline.estimate(totals, 40.0, network, schedule) == exposed


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("TPU v4", "v4"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
    ],
)
def test_chips_by_what_jax_calls_them(kind: str, name: str):
    chip = chips.find(kind)
    assert chip
    assert chip.name == name


def test_a_cpu_has_no_peak():
    assert chips.find("cpu") is None
    assert chips.peak_flops(jax.devices()[0]) is None
