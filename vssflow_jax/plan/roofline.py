"""How long a step takes at best, by what it does and what a chip can do.

    compute = FLOPs / peak
    memory  = bytes accessed / memory bandwidth
    network = wire bytes within a slice / link bandwidth
    dcn     = wire bytes between slices / the chip's share of the data centre's network
    step    = max(compute, memory) + exposed parts of network and dcn

A chip computes while it reads and writes. What it waits for of the networks, the exposed part,
follows from the schedule of the compiled step (`schedule.py`), in which all work is taken to last
max(compute, memory); without a schedule all of both networks is exposed. Real programs lose time
elsewhere, so this is neither a bound nor a promise.
"""

from collections.abc import Mapping

from vssflow_jax.parallel.chips import Chip
from vssflow_jax.plan.collectives import KINDS
from vssflow_jax.plan.counting import BETWEEN_SLICES, BYTES, FLOPS, Totals


def work(totals: Totals, model_flops: float, chip: Chip) -> dict[str, float]:
    """Seconds of computing and of reading and writing memory, by the totals of a device.

    The compiler does not count what a library or a kernel of our own computes, so that no fewer
    FLOPs than the device's share of the model's are taken.
    """
    return {
        "compute_sec": max(totals[FLOPS], model_flops) / chip.flops_per_sec,
        "memory_sec": totals[BYTES] / chip.memory_bytes_per_sec,
    }


def estimate(
    totals: Totals, model_flops: float, chip: Chip, schedule: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Seconds of a step.

    Args:
      totals: what a device does in it.
      model_flops: its share of the model's FLOPs.
      chip: what it can do.
      schedule: fields of the `Schedule` whose work lasts as long as `work` says, if there is one.
    """
    parts = work(totals, model_flops, chip)
    if schedule:
        names = ("network_sec", "network_exposed_sec", "dcn_sec", "dcn_exposed_sec")
        networks = {name: schedule[name] for name in names}
    else:
        network_sec = wire_bytes(totals) / chip.link_bytes_per_sec
        dcn_bytes = wire_bytes(totals, BETWEEN_SLICES)
        dcn_sec = dcn_bytes / chip.dcn_bytes_per_sec if chip.dcn_bytes_per_sec else 0.0
        networks = {
            "network_sec": network_sec,
            "network_exposed_sec": network_sec,
            "dcn_sec": dcn_sec,
            "dcn_exposed_sec": dcn_sec,
        }
    exposed = networks["network_exposed_sec"] + networks["dcn_exposed_sec"]
    return {**parts, **networks, "step_sec": max(parts.values()) + exposed}


def wire_bytes(totals: Totals, link: str = "") -> float:
    """Bytes that a device sends in a step within its slice, or where `link` is `BETWEEN_SLICES`."""
    return sum(totals[f"{link}{kind}.wire_bytes"] for kind in KINDS)
