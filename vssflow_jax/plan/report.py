"""What was found, in figures for programs and in tables for people."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vssflow_jax.parallel import chips
from vssflow_jax.plan import roofline
from vssflow_jax.plan.collectives import KINDS
from vssflow_jax.plan.counting import BETWEEN_SLICES, BYTES, COMPILER_SEC, FLOPS
from vssflow_jax.plan.memory import Memory

_GB = 1e9
_MS = 1e-3

Row = dict[str, Any]
Cell = Callable[[Row], str]

MEMORY_PARTS = tuple(field.name for field in dataclasses.fields(Memory))
TIME_PARTS = ("compute_sec", "memory_sec", "network_exposed_sec", "dcn_exposed_sec")


def summarise(strategy: str, found: Mapping[str, Any], dcn_bytes_per_sec: float = 0.0) -> Row:
    """What was found of a strategy, and what follows from it.

    Args:
      strategy: its name.
      found: what the tasks of a plan found.
      dcn_bytes_per_sec: a chip's share of the network between slices; 0 for what its maker says.
    """
    row: Row = {"strategy": strategy, **found}
    if "error" in found:
        return row
    chip, flops = chips.find(found["device_kind"]), found["model_flops"]
    if chip and dcn_bytes_per_sec:
        chip = dataclasses.replace(chip, dcn_bytes_per_sec=dcn_bytes_per_sec)
    if chip and found["slices"] > 1:
        row["dcn_bytes_per_sec"] = chip.dcn_bytes_per_sec
    row["flops_over_model"] = found["totals"][FLOPS] / flops
    schedule = found.get("schedule", {})
    times = {"measured": found["measured"]} if "measured" in found else {}
    if chip:
        estimate = roofline.estimate(found["totals"], flops, chip, schedule.get("by_roofline"))
        times = {"estimate": estimate, **times}
    if COMPILER_SEC in found["totals"]:
        times["compiler"] = {"step_sec": found["totals"][COMPILER_SEC]}
    if by_cycles := schedule.get("by_cycles"):
        waited = by_cycles["network_exposed_sec"] + by_cycles["dcn_exposed_sec"]
        times["cycles"] = {"step_sec": by_cycles["work_sec"] + waited}
    for name, parts in times.items():
        step_sec = parts["step_sec"]
        row[name] = {
            **parts,
            "mfu": flops / (step_sec * chip.flops_per_sec) if chip else None,
            "examples_per_sec": found["clips"] / step_sec,
        }
    return row


def markdown(title: str, rows: Sequence[Row]) -> str:
    """The plan as a page of tables, with what their columns mean."""
    planned = [row for row in rows if "error" not in row]
    parts = {part: _of("memory", part, _GB, 2) for part in MEMORY_PARTS}
    used = {name: cell for name, cell in parts.items() if any(r["memory"][name] for r in planned)}
    text = [f"# {title}", _about(planned[0])]
    text += ["## Memory of a device", _table(planned, _MESH | used | _ROOM), _MEMORY_WORDS]
    several = planned[0]["slices"] > 1
    work = _WORK | (_WORK_BETWEEN if several else {})
    text += ["## Work of a device in a step", _table(planned, work), _WORK_WORDS]
    if planned[0]["devices"] > 1:
        text += ["## Collectives of a step" + " within a slice" * several]
        text += [_table(planned, _kinds(planned)), _COLLECTIVES_WORDS]
    if several:
        text += ["## Collectives of a step between slices"]
        text += [_table(planned, _kinds(planned, BETWEEN_SLICES)), _BETWEEN_WORDS]
    if "estimate" in planned[0]:
        estimate = _ESTIMATE | (_ESTIMATE_BETWEEN if several else {}) | _STEP
        words = _ESTIMATE_WORDS + (_DCN_WORDS if several else "")
        text += ["## Estimated step", _table(planned, estimate), words]
    if "measured" in planned[0]:
        text += ["## Measured step", _table(planned, _MEASURED), _MEASURED_WORDS]
    impossible = [f"- `{row['strategy']}`: {row['error']}" for row in rows if "error" in row]
    if impossible:
        text += ["## Not possible", "\n".join(impossible)]
    return "\n\n".join(part.strip() for part in text) + "\n"


_MEMORY_WORDS = """
- GB are 10^9 bytes. What *parameters*, *optimizer*, *ema*, *codec* and *batch* take follows from
  their shapes and shardings.
- *temporaries*: gradients, activations and the like, that the compiled step needs beside them.
- *fits, spare*: whether all fits, and what is left of what a program may have.
- *largest*: clips per device that would fit, by a line through two batches that were compiled.
- *compile*: seconds, here, of the step that is trained.
"""

_WORK_WORDS = """
- *TFLOP* and *GB accessed*: XLA's count for one device and one step, from two and three blocks
  laid out without loops.
- *over model*: that count by the model's own FLOPs (`vssflow_jax/models/flops.py`: matrix products
  over unpadded tokens). Padding, elementwise work, rematerialisation and what several devices
  compute alike make it larger; kernels that XLA cannot look into make it smaller.
- *GB sent*: by each device, by ring algorithms; where there are several slices, within its own and
  *to other slices*.
"""

_COLLECTIVES_WORDS = """
- Count, and GB of the whole arrays that are gathered, reduced or exchanged by a group of devices.
"""

_BETWEEN_WORDS = """
- The same of what goes over the data centre's network, each group with a device of each slice.
"""

_ESTIMATE_WORDS = """
- Milliseconds. *compute*: FLOPs at the chip's peak. *memory*: bytes accessed at its memory's
  bandwidth. *network*: bytes sent, over all of its links at once; *exposed*: what the chip waits
  for of that.
- What is exposed follows from the step as training compiles it: a collective that XLA begins in one
  place and awaits in another is hidden by the work between, of which all together lasts as long as
  compute or memory. Without such a schedule (`plan.json` has none) all is exposed.
- *step*: the longer of compute and memory, then what is exposed.
- *compiler*: XLA's own estimate of the programs that are counted, operation by operation, where it
  makes one.
- *cycles*: those that XLA estimates for each instruction of the step as training compiles it, loops
  as often as they run, at the chip's clock, with what is then exposed.
- *MFU*: the model's FLOPs by what the chips could do in that time, of each of the three.
"""

SEARCH_WORDS = """
- *clips*: the most that fit a chip. *GB*: memory of a chip at the peak. The rest is as in a plan:
  milliseconds, *exposed* of the network, *step* and *MFU* by the roofline, *compiler* and *cycles*
  by XLA.
- These batches were compiled, and what the network hides is taken from the schedule. Of those below
  clips follow from a line through two batches, and nothing of the network is hidden.
- The best gets through most examples a second by the roofline. How well so large a batch trains is
  another question.
"""

_DCN_WORDS = """
- *dcn*: bytes sent to other slices, over the chip's share of the data centre's network. What is
  exposed of it adds to the step as that of the network does.
"""

_MEASURED_WORDS = """
- Median of a few steps of random clips, after one that is not timed. Simulated devices share the
  cores of one machine: their seconds show that the step runs, not how fast it would.
"""


def _about(first: Row) -> str:
    slices = f" in {first['slices']} slices" if first["slices"] > 1 else ""
    lines = [
        f"{first['devices']} x {first['device_kind']}{slices}, batches of {first['clips']} clips "
        f"({first['clips'] / first['devices']:g} per device)."
    ]
    if first["latents"] == "offline":
        lines.append("Latents are taken to be offline: the step has no audio codec.")
    chip = chips.find(first["device_kind"])
    if chip:
        lines.append(
            f"{chip.name}: {chip.flops_per_sec / 1e12:.0f} TFLOP/s in bfloat16, "
            f"{chip.memory_bytes / _GB:.1f} GB of memory at "
            f"{chip.memory_bytes_per_sec / _GB:.0f} GB/s, links of "
            f"{chip.link_bytes_per_sec / _GB:.0f} GB/s one way together ({chip.source})."
        )
    if between := first.get("dcn_bytes_per_sec"):
        lines.append(f"Between slices: {between / _GB:.3g} GB/s one way for each chip.")
    return "\n".join(lines)


def _of(group: str, name: str, unit: float, digits: int) -> Cell:
    """A figure of a group in a row, in a unit."""
    return lambda row: _number(row.get(group, {}).get(name), unit, digits)


def _bold(cell: Cell) -> Cell:
    return lambda row: f"**{cell(row)}**"


def _mfu(group: str) -> Cell:
    def cell(row: Row) -> str:
        mfu = row.get(group, {}).get("mfu")
        return "-" if mfu is None else f"{mfu:.0%}"

    return cell


def _mesh(row: Row) -> str:
    return "x".join(f"{axis} {size}" for axis, size in row["mesh"].items()) or "1"


def _fits(row: Row) -> str:
    peak, limit = row["memory"]["peak"], row["memory_limit"]
    verdict = {True: "yes", False: "no", None: "-"}[row["fits"]]
    return verdict + (f", {(limit - peak) / _GB:+.1f}" if limit and peak else "")


def _kinds(rows: Sequence[Row], link: str = "") -> dict[str, Cell]:
    """Columns of the kinds of collectives that there are."""
    return {
        kind: _collectives(link + kind)
        for kind in KINDS
        if any(row["totals"][f"{link}{kind}.count"] for row in rows)
    }


def _collectives(kind: str) -> Cell:
    def cell(row: Row) -> str:
        count, payload = (row["totals"][f"{kind}.{what}"] for what in ("count", "payload_bytes"))
        return f"{count:.0f}: {payload / _GB:.3f}" if count else "-"

    return cell


# Columns of the tables: those of the memory stand around its parts.
_MESH: dict[str, Cell] = {"mesh": _mesh}
_ROOM: dict[str, Cell] = {
    "peak": _bold(_of("memory", "peak", _GB, 2)),
    "fits, spare": _fits,
    "largest": lambda row: _number(row["largest_clips_per_device"], 1, 0),
    "compile": lambda row: f"{row['compile_sec']:.0f} s",
}
_WORK: dict[str, Cell] = {
    "TFLOP": _of("totals", FLOPS, 1e12, 3),
    "over model": lambda row: _number(row["flops_over_model"], 1, 3),
    "GB accessed": _of("totals", BYTES, _GB, 1),
    "GB sent": lambda row: _number(roofline.wire_bytes(row["totals"]), _GB, 3),
}
_WORK_BETWEEN: dict[str, Cell] = {
    "to other slices": lambda row: _number(
        roofline.wire_bytes(row["totals"], BETWEEN_SLICES), _GB, 3
    ),
}
_ESTIMATE: dict[str, Cell] = {
    "compute": _of("estimate", "compute_sec", _MS, 1),
    "memory": _of("estimate", "memory_sec", _MS, 1),
    "network": _of("estimate", "network_sec", _MS, 1),
    "exposed": _of("estimate", "network_exposed_sec", _MS, 1),
}
_ESTIMATE_BETWEEN: dict[str, Cell] = {
    "dcn": _of("estimate", "dcn_sec", _MS, 1),
    "dcn exposed": _of("estimate", "dcn_exposed_sec", _MS, 1),
}
_STEP: dict[str, Cell] = {
    "step": _bold(_of("estimate", "step_sec", _MS, 1)),
    "MFU": _mfu("estimate"),
    "examples/s": _of("estimate", "examples_per_sec", 1, 0),
    "compiler": _of("compiler", "step_sec", _MS, 1),
    "MFU by it": _mfu("compiler"),
    "cycles": _of("cycles", "step_sec", _MS, 1),
    "MFU by them": _mfu("cycles"),
}
_MEASURED: dict[str, Cell] = {
    "step, ms": _of("measured", "step_sec", _MS, 1),
    "examples/s": _of("measured", "examples_per_sec", 1, 1),
    "MFU": _mfu("measured"),
    "peak, GB": _of("measured", "peak_bytes", _GB, 2),
    "loss": _of("measured", "loss", 1, 3),
}


_SEARCHED: dict[str, Cell] = {
    "topology": lambda row: row["topology"],
    "mesh": _mesh,
    "remat": lambda row: row["remat"],
    "attention": lambda row: row["attention"],
    "clips": lambda row: str(row["clips_per_device"]),
    "GB": _of("memory", "peak", _GB, 2),
    "exposed": _of("estimate", "network_exposed_sec", _MS, 1),
    **_STEP,
}


def search_table(rows: Sequence[Row]) -> str:
    """Rows of a search, of one topology or several."""
    return _table(rows, _SEARCHED)


def _table(rows: Sequence[Row], columns: Mapping[str, Cell]) -> str:
    lines = [["strategy", *columns], ["---"] * (1 + len(columns))]
    lines += [[f"`{row['strategy']}`", *(cell(row) for cell in columns.values())] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"
