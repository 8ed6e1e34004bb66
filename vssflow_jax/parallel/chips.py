"""What accelerators can do at best, by what their makers say.

Peaks are those of dense bfloat16 matrix products. Links count all of a chip's together in one
direction, half of what is sold as bidirectional. The data centre's network, between slices, is a
chip's share of its host's or pod's. Memory is what a program may have: of TPUs what
the compiler of libtpu 0.0.42 grants of the 16, 32 and 95 GB that are published. Clocks are the peak
over what the matrix units of a device do in a cycle: 4 (v4, v5e) or 8 (v5p) of 128 x 128, 4 of
256 x 256 (v6e), two operations each.

Sources:
  TPU v4: https://cloud.google.com/tpu/docs/v4; links: arXiv 2304.01433, table 4. JAX sees the two
    cores of a chip as two devices, and so does the table.
  TPU v5e: https://cloud.google.com/tpu/docs/v5e (network: 6.4 Tbit/s of a pod of 256)
  TPU v5p: https://cloud.google.com/tpu/docs/v5p (network: 50 Gbit/s of a chip)
  TPU v6e: https://cloud.google.com/tpu/docs/v6e (network: 25.6 Tbit/s of a pod of 256)
  A100 80GB SXM: NVIDIA A100 datasheet, https://www.nvidia.com/en-us/data-center/a100/
  H100 SXM: https://www.nvidia.com/en-us/data-center/h100/
  H200 SXM: https://www.nvidia.com/en-us/data-center/h200/
"""

import dataclasses

import jax

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peaks of one device.

    Attributes:
      name: as people call it.
      kinds: what `jax.Device.device_kind` says, or starts with.
      flops_per_sec: bfloat16, dense.
      memory_bytes: memory that a program may have.
      memory_bytes_per_sec: bandwidth of its own memory.
      link_bytes_per_sec: to other chips of the slice or node, one way, all links together.
      source: where the figures are from.
      dcn_bytes_per_sec: to other slices, one way; None where the maker does not say.
      cycles_per_sec: clock of a TPU, by which its compiler counts; None of others.
    """

    name: str
    kinds: tuple[str, ...]
    flops_per_sec: float
    memory_bytes: float
    memory_bytes_per_sec: float
    link_bytes_per_sec: float
    source: str
    dcn_bytes_per_sec: float | None = None
    cycles_per_sec: float | None = None


_TPU_DOCS = "https://cloud.google.com/tpu/docs/"
_NVIDIA_DOCS = "https://www.nvidia.com/en-us/data-center/"

CHIPS = (
    Chip(
        "v4",
        ("TPU v4",),
        137.5e12,
        15.25 * _GIB,
        600e9,
        150e9,
        _TPU_DOCS + "v4",
        cycles_per_sec=1.05e9,
    ),
    Chip(
        "v5e",
        ("TPU v5 lite", "TPU v5e"),
        197e12,
        15.75 * _GIB,
        819e9,
        200e9,
        _TPU_DOCS + "v5e",
        3.125e9,
        1.5e9,
    ),
    Chip(
        "v5p",
        ("TPU v5", "TPU v5p"),
        459e12,
        95.74 * _GIB,
        2765e9,
        600e9,
        _TPU_DOCS + "v5p",
        6.25e9,
        1.75e9,
    ),
    Chip(
        "v6e",
        ("TPU v6 lite", "TPU v6e"),
        918e12,
        31.25 * _GIB,
        1638e9,
        400e9,
        _TPU_DOCS + "v6e",
        12.5e9,
        1.75e9,
    ),
    Chip("A100", ("NVIDIA A100",), 312e12, 80 * _GIB, 2039e9, 300e9, _NVIDIA_DOCS + "a100/"),
    Chip("H100", ("NVIDIA H100",), 989e12, 80 * _GIB, 3350e9, 450e9, _NVIDIA_DOCS + "h100/"),
    Chip("H200", ("NVIDIA H200",), 989e12, 141e9, 4800e9, 450e9, _NVIDIA_DOCS + "h200/"),
)


def find(device_kind: str) -> Chip | None:
    """The chip whose kind the device's starts with, the longest such; None if there is none."""
    fitting = {kind: chip for chip in CHIPS for kind in chip.kinds if device_kind.startswith(kind)}
    return fitting[max(fitting, key=len)] if fitting else None


def total_peak_flops(mesh: jax.sharding.Mesh) -> float | None:
    """Peak bfloat16 FLOP/s of all devices of a mesh; None where that of its kind is not known."""
    peak = peak_flops(mesh.devices.flat[0])
    return peak and peak * mesh.size


def peak_flops(device: jax.Device) -> float | None:
    """Peak bfloat16 FLOP/s of a device; None for CPUs and chips that are not in the table."""
    chip = find(device.device_kind)
    return chip.flops_per_sec if chip else None
