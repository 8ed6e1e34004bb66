"""Tables and picture of what was found, here of figures that are made up."""

from pathlib import Path
from typing import Any

import pytest

from vssflow_jax.plan import picture, report
from vssflow_jax.plan.collectives import KINDS
from vssflow_jax.plan.counting import BETWEEN_SLICES, BYTES, COMPILER_SEC, FLOPS

GB = 1e9


def found(slices: int) -> dict[str, Any]:
    """Of eight chips a slice that sum 2 GB within it, and between slices a quarter of that."""
    links = ("", BETWEEN_SLICES)
    figures = ("count", "payload_bytes", "wire_bytes")
    totals = {f"{link}{kind}.{of}": 0.0 for link in links for kind in KINDS for of in figures}
    totals |= dict(zip((f"all-reduce.{of}" for of in figures), (3, 2 * GB, 3 * GB), strict=True))
    if slices > 1:
        names = (f"{BETWEEN_SLICES}all-reduce.{of}" for of in figures)
        totals |= dict(zip(names, (1, 0.5 * GB, 0.5 * GB), strict=True))
    memory = dict.fromkeys((*report.MEMORY_PARTS, "peak"), GB)
    return {
        "device_kind": "TPU v5 lite",
        "devices": 8 * slices,
        "slices": slices,
        "mesh": {"data": 8 * slices},
        "latents": "online",
        "clips": 64,
        "model_flops": 1e12,
        "memory": memory,
        "memory_limit": 16 * GB,
        "fits": True,
        "largest_clips_per_device": 9,
        "compile_sec": 1.0,
        "totals": {FLOPS: 1e12, BYTES: GB, **totals},
    }


def page(slices: int, dcn_bytes_per_sec: float = 0.0) -> tuple[report.Row, str]:
    row = report.summarise("dp", found(slices), dcn_bytes_per_sec)
    return row, report.markdown("Plan", [row])


def test_collectives_are_told_apart_by_link():
    row, text = page(2)
    assert "16 x TPU v5 lite in 2 slices, batches of 64 clips" in text
    assert "Between slices: 3.12 GB/s one way for each chip." in text
    within, between = text.split("## Collectives of a step within a slice\n")[1].split(
        "## Collectives of a step between slices\n"
    )
    assert "| `dp` | 3: 2.000 |" in within
    assert "| `dp` | 1: 0.500 |" in between
    assert "| GB sent | to other slices |" in text
    assert "| 3.000 | 0.500 |" in text
    assert row["estimate"]["dcn_sec"] == pytest.approx(0.16)
    assert "| dcn |" in text


def test_the_network_between_slices_may_be_given():
    row, text = page(2, dcn_bytes_per_sec=25 * GB)
    assert "Between slices: 25 GB/s" in text
    assert row["estimate"]["dcn_sec"] == pytest.approx(0.02)
    without = page(1)[0]["estimate"]["step_sec"]
    assert row["estimate"]["step_sec"] == pytest.approx(without + 0.02)


def test_one_slice_has_no_word_of_others():
    row, text = page(1, dcn_bytes_per_sec=25 * GB)
    assert row["estimate"]["dcn_sec"] == 0
    for words in ("| to other slices |", "a step between slices", "within a slice", "dcn"):
        assert words not in text


def scheduled() -> dict[str, Any]:
    """Of one slice, with what XLA estimates."""
    parts = {"network_sec": 0.02, "dcn_sec": 0.0, "dcn_exposed_sec": 0.0}
    schedule = {
        "by_roofline": {**parts, "work_sec": 0.005, "network_exposed_sec": 0.004},
        "by_cycles": {**parts, "work_sec": 0.015, "network_exposed_sec": 0.001},
    }
    one = found(1)
    return {**one, "totals": {**one["totals"], COMPILER_SEC: 0.012}, "schedule": schedule}


def test_all_estimates_stand_side_by_side():
    row = report.summarise("dp", scheduled())
    # 1 TFLOP at 197 TFLOP/s, then what a chip waits for.
    assert row["estimate"]["step_sec"] == pytest.approx(1 / 197 + 0.004)
    assert row["compiler"]["step_sec"] == 0.012
    assert row["cycles"]["step_sec"] == pytest.approx(0.016)
    for group in ("estimate", "compiler", "cycles"):
        expected = 1e12 / 197e12 / row[group]["step_sec"]
        assert row[group]["mfu"] == pytest.approx(expected)
    (line,) = (
        line
        for line in report.markdown("Plan", [row]).split("## Estimated step")[1].splitlines()
        if line.startswith("| `dp`")
    )
    assert line == (
        "| `dp` | 5.1 | 1.2 | 20.0 | 4.0 | **9.1** | 56% | 7051 | 12.0 | 42% | 16.0 | 32% |"
    )


def test_an_estimate_that_xla_does_not_make_is_a_dash():
    row, text = page(1)
    assert "compiler" not in row
    assert "cycles" not in row
    assert text.split("## Estimated step")[1].splitlines()[4].endswith("| - | - | - | - |")
    assert row["estimate"]["network_exposed_sec"] == row["estimate"]["network_sec"]


@pytest.mark.parametrize("slices", [1, 2])
def test_a_picture_is_drawn(tmp_path: Path, slices: int):
    picture.draw(tmp_path / "plan.png", "Plan", [page(slices)[0]])
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_the_estimates_of_xla_are_in_the_picture(tmp_path: Path):
    row = report.summarise("dp", scheduled())
    picture.draw(tmp_path / "plan.png", "Plan", [row])
    without = page(1)[0]
    picture.draw(tmp_path / "without.png", "Plan", [without])
    assert (tmp_path / "plan.png").stat().st_size > (tmp_path / "without.png").stat().st_size
