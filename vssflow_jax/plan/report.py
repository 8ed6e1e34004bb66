"""What was found, in figures for programs and in tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from vssflow_jax.parallel import chips
from vssflow_jax.plan import roofline
from vssflow_jax.plan.collectives import KINDS
from vssflow_jax.plan.counting import BYTES, COMPILER_SEC, FLOPS

_GB = 1e9
_MS = 1e-3

Row = dict[str, Any]

MEMORY_PARTS = ("parameters", "optimizer", "ema", "codec", "batch", "temporaries")
TIME_PARTS = ("compute_sec", "memory_sec", "network_sec")


def summarise(strategy: str, found: Mapping[str, Any]) -> Row:
    """What was found of a strategy, and what follows from it."""
    row: Row = {"strategy": strategy, **found}
    if "error" in found:
        return row
    chip = chips.find(found["device_kind"])
    memory, totals, flops = found["memory"], found["totals"], found["model_flops"]
    sizes = [memory[part] for part in MEMORY_PARTS]
    row["memory"] = {**memory, "peak": None if None in sizes else sum(sizes)}
    row["flops_over_model"] = totals[FLOPS] / flops
    if chip:
        parts = roofline.estimate(totals, flops, chip)
        row["estimate"] = {
            "compute_sec": parts.compute_sec,
            "memory_sec": parts.memory_sec,
            "network_sec": parts.network_sec,
            "step_sec": parts.step_sec,
            "mfu": roofline.mfu(flops, parts.step_sec, chip.flops_per_sec),
            "examples_per_sec": found["clips"] / parts.step_sec,
        }
    if "measured" in found:
        step_sec = found["measured"]["step_sec"]
        row["measured"] = {
            **found["measured"],
            "mfu": roofline.mfu(flops, step_sec, chip.flops_per_sec) if chip else None,
            "examples_per_sec": found["clips"] / step_sec,
        }
    return row


def markdown(title: str, rows: Sequence[Row], clips_per_device: int) -> str:
    """The plan as a page of tables, with what their columns mean."""
    planned = [row for row in rows if "error" not in row]
    parts = [f"# {title}", _about(planned[0], clips_per_device)]
    parts += ["## Memory of a device", _memory_table(planned), _MEMORY_WORDS]
    parts += ["## Work of a device in a step", _work_table(planned), _WORK_WORDS]
    if planned[0]["devices"] > 1:
        parts += ["## Collectives of a step", _collectives_table(planned), _COLLECTIVES_WORDS]
    if "estimate" in planned[0]:
        parts += ["## Estimated step", _estimate_table(planned), _ESTIMATE_WORDS]
    if "measured" in planned[0]:
        parts += ["## Measured step", _measured_table(planned), _MEASURED_WORDS]
    impossible = [f"- `{row['strategy']}`: {row['error']}" for row in rows if "error" in row]
    if impossible:
        parts += ["## Not possible", "\n".join(impossible)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


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
- *GB sent*: by each device, by ring algorithms.
"""

_COLLECTIVES_WORDS = """
- Count, and GB of the whole arrays that are gathered, reduced or exchanged by a group of devices.
"""

_ESTIMATE_WORDS = """
- Milliseconds. *compute*: FLOPs at the chip's peak. *memory*: bytes accessed at its memory's
  bandwidth. *network*: bytes sent, over all of its links at once.
- *step*: the longer of compute and memory, then network. Nothing of the network is taken to be
  hidden, and all else to run at its peak.
- *compiler*: XLA's own estimate, operation by operation, where it makes one.
- *MFU*: the model's FLOPs by what the chips could do in that time.
"""

_MEASURED_WORDS = """
- Median of a few steps of random clips, after one that is not timed. Simulated devices share the
  cores of one machine: their seconds show that the step runs, not how fast it would.
"""


def _about(first: Row, clips_per_device: int) -> str:
    lines = [
        f"{first['devices']} x {first['device_kind']}, batches of {first['clips']} clips "
        f"({clips_per_device} per device)."
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
    return "\n".join(lines)


def _memory_table(rows: Sequence[Row]) -> str:
    used = [part for part in MEMORY_PARTS if any(row["memory"][part] for row in rows)]

    def cells(row: Row) -> list[str]:
        peak, limit = row["memory"]["peak"], row["memory_limit"]
        verdict = {True: "yes", False: "no", None: "-"}[row["fits"]]
        spare = f", {(limit - peak) / _GB:+.1f}" if limit and peak else ""
        return [
            "x".join(f"{axis} {size}" for axis, size in row["mesh"].items()) or "1",
            *(_number(row["memory"][part], _GB, 2) for part in used),
            f"**{_number(peak, _GB, 2)}**",
            verdict + spare,
            _number(row["largest_clips_per_device"], 1, 0),
            f"{row['compile_sec']:.0f} s",
        ]

    return _table(["mesh", *used, "peak", "fits, spare", "largest", "compile"], rows, cells)


def _work_table(rows: Sequence[Row]) -> str:
    def cells(row: Row) -> list[str]:
        totals = row["totals"]
        return [
            _number(totals[FLOPS], 1e12, 3),
            f"{row['flops_over_model']:.3f}",
            _number(totals[BYTES], _GB, 1),
            _number(roofline.wire_bytes(totals), _GB, 3),
        ]

    return _table(["TFLOP", "over model", "GB accessed", "GB sent"], rows, cells)


def _collectives_table(rows: Sequence[Row]) -> str:
    used = [kind for kind in KINDS if any(row["totals"][f"{kind}.count"] for row in rows)]

    def cells(row: Row) -> list[str]:
        totals = row["totals"]
        return [
            f"{totals[f'{kind}.count']:.0f}: {totals[f'{kind}.payload_bytes'] / _GB:.3f}"
            if totals[f"{kind}.count"]
            else "-"
            for kind in used
        ]

    return _table(used, rows, cells)


def _estimate_table(rows: Sequence[Row]) -> str:
    def cells(row: Row) -> list[str]:
        parts = row["estimate"]
        return [
            *(_number(parts[part], _MS, 1) for part in TIME_PARTS),
            f"**{_number(parts['step_sec'], _MS, 1)}**",
            _number(row["totals"].get(COMPILER_SEC), _MS, 1),
            f"{parts['mfu']:.0%}",
            f"{parts['examples_per_sec']:.0f}",
        ]

    names = ["compute", "memory", "network", "step", "compiler", "MFU", "examples/s"]
    return _table(names, rows, cells)


def _measured_table(rows: Sequence[Row]) -> str:
    def cells(row: Row) -> list[str]:
        found = row["measured"]
        return [
            _number(found["step_sec"], _MS, 1),
            f"{found['examples_per_sec']:.1f}",
            "-" if found["mfu"] is None else f"{found['mfu']:.0%}",
            _number(found["peak_bytes"], _GB, 2),
            f"{found['loss']:.3f}",
        ]

    return _table(["step, ms", "examples/s", "MFU", "peak, GB", "loss"], rows, cells)


def _table(names: Sequence[str], rows: Sequence[Row], cells: Any) -> str:
    lines = [["strategy", *names], ["---"] * (1 + len(names))]
    lines += [[f"`{row['strategy']}`", *cells(row)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"
