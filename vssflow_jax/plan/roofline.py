"""How long a step takes at best, by what it does and what a chip can do.

    compute = FLOPs / peak
    memory  = bytes accessed / memory bandwidth
    network = wire bytes / link bandwidth
    step    = max(compute, memory) + network

A chip computes while it reads and writes; the network is taken to wait for both. Real programs
hide part of the network and lose time elsewhere, so this is neither a bound nor a promise:
max(compute, memory, network) would be the bound below, the sum of all three the one of a chip that
does one thing at a time.
"""

from vssflow_jax.parallel.chips import Chip
from vssflow_jax.plan.collectives import KINDS
from vssflow_jax.plan.counting import BYTES, FLOPS, Totals


def estimate(totals: Totals, model_flops: float, chip: Chip) -> dict[str, float]:
    """Seconds of a step, by the totals of a device and its share of the model's FLOPs.

    The compiler does not count what a library or a kernel of our own computes, so that no fewer
    FLOPs than the model's are taken.
    """
    compute_sec = max(totals[FLOPS], model_flops) / chip.flops_per_sec
    memory_sec = totals[BYTES] / chip.memory_bytes_per_sec
    network_sec = wire_bytes(totals) / chip.link_bytes_per_sec
    return {
        "compute_sec": compute_sec,
        "memory_sec": memory_sec,
        "network_sec": network_sec,
        "step_sec": max(compute_sec, memory_sec) + network_sec,
    }


def wire_bytes(totals: Totals) -> float:
    """Bytes that a device sends in a step."""
    return sum(totals[f"{kind}.wire_bytes"] for kind in KINDS)
