"""Files like those that networks are published in, with random numbers."""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch


class Holder(torch.nn.Module):
    """A module whose tensors have the names that it is told."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]):
        super().__init__()
        modules: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            first, dot, rest = name.partition(".")
            if dot:
                modules.setdefault(first, {})[rest] = tensor
            elif tensor.is_floating_point():
                self.register_parameter(first, torch.nn.Parameter(tensor))
            else:
                self.register_buffer(first, tensor)
        for name, held in modules.items():
            self.add_module(name, Holder(held))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def as_program(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors as those of a program of TorchScript."""
    torch.jit.trace(Holder(tensors), torch.zeros(1)).save(str(path))


def import_command(kind: str, source: Path, out: Path) -> list[str]:
    """The command line that imports a file."""
    command = [sys.executable, "-m", "vssflow_jax.interop.import_weights"]
    return [*command, f"--kind={kind}", f"--source={source}", f"--out={out}"]
