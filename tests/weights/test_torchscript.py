"""Programs of TorchScript: their tensors are read, and nothing of them is run."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.state_dict import read_state_dict


class Net(torch.nn.Module):
    """Parameters, buffers and modules of modules, as OpenAI's CLIP has them."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2, bias=False)
        )
        self.token = torch.nn.Parameter(torch.randn(4))
        self.turned = torch.nn.Parameter(torch.randn(4, 3).T)
        self.halves = torch.nn.Parameter(torch.randn(2, 3).half())
        self.register_buffer("positions", torch.arange(5))
        self.register_buffer("nothing", torch.zeros(0, 3))
        self.layers[2].weight = torch.nn.Parameter(torch.randn(6, 4)[::3])
        self.size = 7
        self.names = ["a", "b"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + self.token[:2] * self.size


def save(folder: Path, module: torch.nn.Module) -> Path:
    path = folder / "model.pt"
    torch.jit.script(module).save(str(path))
    return path


@pytest.mark.parametrize("how", ["script", "trace"])
def test_tensors_have_the_names_of_the_state_dict(how: str, tmp_path: Path) -> None:
    module = Net().eval()
    path = save(tmp_path, module)
    if how == "trace":
        torch.jit.trace(module, torch.zeros(2, 3)).save(str(path))
    found = read_state_dict(path)
    wanted = module.state_dict()
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        is_floating = tensor.is_floating_point()
        np.testing.assert_array_equal(found[name], (tensor.float() if is_floating else tensor))
        assert found[name].dtype == (np.float32 if is_floating else np.int64)


def with_pickle(path: Path, content: bytes) -> Path:
    """The program with another pickle of its modules."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, record in records.items():
            archive.writestr(name, content if name.endswith("/data.pkl") else record)
    return path


class Attack:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.system, (f"touch {self.file}",)


def test_a_program_whose_pickle_wants_to_run_code_is_refused_by_name(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    path = with_pickle(save(tmp_path, Net()), pickle.dumps(Attack(ran), protocol=2))
    with pytest.raises(UserError, match=r"model\.pt asks to run (posix|nt)\.system"):
        read_state_dict(path)
    assert not ran.exists()


def test_a_program_that_is_no_module_is_refused(tmp_path: Path) -> None:
    path = with_pickle(save(tmp_path, Net()), pickle.dumps({"weight": 1}, protocol=2))
    with pytest.raises(UserError, match=r"is a TorchScript program, not weights; save the state_d"):
        read_state_dict(path)


def test_tensors_that_reach_beyond_their_numbers_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, torch.nn.Linear(3, 4))
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        content = archive.read(name)
    assert content.count(b"K\x04K\x03") == 1  # the shape of the weight
    with_pickle(path, content.replace(b"K\x04K\x03", b"K\x40K\x03"))
    with pytest.raises(UserError, match=r"model\.pt is not a whole file of torch"):
        read_state_dict(path)


def test_a_program_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, Net())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"model\.pt is not a whole file of torch"):
        read_state_dict(path)
