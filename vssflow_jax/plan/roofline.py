"""How long a step takes at best, by what it does and what a chip can do.

    compute = FLOPs / peak
    memory  = bytes accessed / memory bandwidth
    network = wire bytes within a slice / link bandwidth
    dcn     = wire bytes between slices / the chip's share of the data centre's network
    step    = max(compute, memory) + network + dcn

A chip computes while it reads and writes; both networks are taken to wait for that and for each
other. Real programs
hide part of the network and lose time elsewhere, so this is neither a bound nor a promise:
the largest of the four would be the bound below, the sum of all of them the one of a chip that does
one thing at a time.
"""

from vssflow_jax.parallel.chips import Chip
from vssflow_jax.plan.collectives import KINDS
from vssflow_jax.plan.counting import BETWEEN_SLICES, BYTES, FLOPS, Totals


def estimate(totals: Totals, model_flops: float, chip: Chip) -> dict[str, float]:
    """Seconds of a step, by the totals of a device and its share of the model's FLOPs.

    The compiler does not count what a library or a kernel of our own computes, so that no fewer
    FLOPs than the model's are taken.
    """
    compute_sec = max(totals[FLOPS], model_flops) / chip.flops_per_sec
    memory_sec = totals[BYTES] / chip.memory_bytes_per_sec
    network_sec = wire_bytes(totals) / chip.link_bytes_per_sec
    dcn_bytes = wire_bytes(totals, BETWEEN_SLICES)
    dcn_sec = dcn_bytes / chip.dcn_bytes_per_sec if chip.dcn_bytes_per_sec else 0.0
    return {
        "compute_sec": compute_sec,
        "memory_sec": memory_sec,
        "network_sec": network_sec,
        "dcn_sec": dcn_sec,
        "step_sec": max(compute_sec, memory_sec) + network_sec + dcn_sec,
    }


def wire_bytes(totals: Totals, link: str = "") -> float:
    """Bytes that a device sends in a step within its slice, or where `link` is `BETWEEN_SLICES`."""
    return sum(totals[f"{link}{kind}.wire_bytes"] for kind in KINDS)
