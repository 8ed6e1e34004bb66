"""The parts by name, in the order of what they tell."""

from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection

import jax

from benchmarks.accelerator.ceiling import matmul
from benchmarks.accelerator.correctness import correctness
from benchmarks.accelerator.in_torch import torch_blocks
from benchmarks.accelerator.items import Item, rows
from benchmarks.accelerator.sampling import sampling
from benchmarks.accelerator.sizes import FULL, QUICK, Scale
from benchmarks.accelerator.sounds import sounds
from benchmarks.accelerator.training import blocks, train, variants, xl

TORCH = "torch"
PARTS: dict[str, Callable[[Scale], Iterable[Item]]] = {
    "matmul": matmul,
    "correctness": correctness,
    "train": train,
    "blocks": blocks,
    "sampling": sampling,
    TORCH: torch_blocks,
    "variants": variants,
    "xl": xl,
    "sounds": sounds,
}
"""Each of them runs in a process of its own, which has the device's memory to itself."""


def work(part: str, quick: bool, deadline: float, rows_to: Connection) -> None:
    """Send what the process computes on, and then its rows, one by one."""
    with rows_to:
        if part != TORCH:
            _add_cpu()
            device = jax.devices()[0]
            rows_to.send({"device": f"{device.device_kind}, one of {jax.device_count()}"})
        for row in rows(PARTS[part](QUICK if quick else FULL), deadline):
            rows_to.send(row)


def _add_cpu() -> None:
    """Let JAX have the CPU too, which results are held against."""
    platforms = jax.config.jax_platforms
    if platforms and "cpu" not in platforms:
        jax.config.update("jax_platforms", f"{platforms},cpu")
