"""Tables and picture of what was found, here of figures that are made up."""

from pathlib import Path
from typing import Any

import pytest

from vssflow_jax.plan import picture, report
from vssflow_jax.plan.collectives import KINDS
from vssflow_jax.plan.counting import BETWEEN_SLICES, BYTES, FLOPS

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


@pytest.mark.parametrize("slices", [1, 2])
def test_a_picture_is_drawn(tmp_path: Path, slices: int):
    picture.draw(tmp_path / "plan.png", "Plan", [page(slices)[0]])
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
