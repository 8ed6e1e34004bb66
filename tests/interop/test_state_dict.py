"""Files of tensors as PyTorch projects leave them, whole and damaged."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vssflow_jax.errors import UserError
from vssflow_jax.interop.state_dict import (
    read_config_beside,
    read_state_dict,
    write_state_dict,
)

TENSORS = {
    "single": torch.linspace(-1, 1, 6).reshape(2, 3),
    "brain": torch.linspace(-3, 3, 4).bfloat16(),
    "half": torch.linspace(-2, 2, 5).half(),
    "double": torch.linspace(0, 1, 3).double(),
    "scalar": torch.tensor(2.5),
    "count": torch.tensor([7]),
}


def assert_is_tensors(found: dict[str, np.ndarray]) -> None:
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        wanted = tensor.float() if tensor.is_floating_point() else tensor
        assert found[name].dtype == wanted.numpy().dtype
        np.testing.assert_array_equal(found[name], wanted.numpy())


def write_safetensors(folder: Path) -> Path:
    save_file(TENSORS, folder / "model.safetensors")
    return folder / "model.safetensors"


def write_shards(folder: Path) -> Path:
    """The tensors in two files, and the index that lists them."""
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(TENSORS)}
    for file in set(files.values()):
        save_file({name: TENSORS[name] for name in TENSORS if files[name] == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return index


def write_lightning(folder: Path) -> Path:
    path = folder / "last.ckpt"
    torch.save({"epoch": 3, "state_dict": TENSORS, "optimizer_states": [{"lr": 1e-4}]}, path)
    return path


def write_bin(folder: Path) -> Path:
    path = folder / "pytorch_model.bin"
    torch.save(TENSORS, path)
    return path


WRITERS = [write_safetensors, write_shards, write_lightning, write_bin]


@pytest.mark.parametrize("write", WRITERS)
def test_reads_every_format_by_file_and_by_folder(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = write(tmp_path)
    assert_is_tensors(read_state_dict(tmp_path))
    if path.suffix != ".json":
        assert_is_tensors(read_state_dict(path))


def test_writes_views_as_they_read(tmp_path: Path) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = tmp_path / "out.safetensors"
    scalar = np.float32(2)
    write_state_dict(path, {"turned": matrix.T, "reversed": matrix[::-1], "scalar": scalar})
    found = read_state_dict(path)
    np.testing.assert_array_equal(found["turned"], matrix.T)
    np.testing.assert_array_equal(found["reversed"], matrix[::-1])
    assert found["scalar"].shape == ()
    assert [file.name for file in tmp_path.iterdir()] == ["out.safetensors"]


def test_a_truncated_file_names_the_tensor_that_is_cut(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path)
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    offsets = json.loads(path.read_bytes()[8:header])["brain"]["data_offsets"]
    path.write_bytes(path.read_bytes()[: header + offsets[0] + 1])
    with pytest.raises(UserError, match=r"model\.safetensors.*ends within 'brain'"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("length", [0, 5, 8, 40])
def test_a_file_without_its_header_is_refused(length: int, tmp_path: Path) -> None:
    path = write_safetensors(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"model\.safetensors is not a whole safetensors file"):
        read_state_dict(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x93NUMPY and so on, but no tensors" * 9)
    with pytest.raises(UserError, match=r"model\.safetensors is not a whole safetensors file"):
        read_state_dict(path)
    with pytest.raises(UserError, match=r"weights\.npz: weights come in"):
        read_state_dict(path.rename(tmp_path / "weights.npz"))


def test_missing_and_ambiguous_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        read_state_dict(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no weights"):
        read_state_dict(tmp_path)
    save_file(TENSORS, tmp_path / "model.safetensors")
    save_file(TENSORS, tmp_path / "model.fp16.safetensors")
    with pytest.raises(UserError, match=r"several.*model\.fp16\.safetensors, model\.safetensors"):
        read_state_dict(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path)
    save_file({"single": TENSORS["single"]}, tmp_path / "model-0.safetensors")
    with pytest.raises(UserError, match=r"model-0\.safetensors lacks 'half'"):
        read_state_dict(tmp_path)
    (tmp_path / "model-0.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-0\.safetensors is missing"):
        read_state_dict(tmp_path)


def test_a_checkpoint_that_could_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": TENSORS, "hparams": argparse.Namespace()}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt holds more than tensors"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("length", [0, 10, 900])
def test_a_truncated_checkpoint_is_refused(length: int, tmp_path: Path) -> None:
    path = write_lightning(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"last\.ckpt is not a whole file of torch"):
        read_state_dict(path)


def test_a_checkpoint_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt: 'epoch' is no tensor"):
        read_state_dict(tmp_path)
    torch.save([1, 2], tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="no state dict but a list"):
        read_state_dict(tmp_path)


def test_only_torch_files_need_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, checkpoint = write_safetensors(tmp_path), write_lightning(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert_is_tensors(read_state_dict(path))
    with pytest.raises(UserError, match=r"'torch' is not installed.*\[convert\]"):
        read_state_dict(checkpoint)


def test_a_missing_or_broken_config_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(UserError, match=r"model\.safetensors does not exist"):
        read_config_beside(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"config\.json is missing"):
        read_config_beside(write_safetensors(tmp_path))
    for text, message in (("{not json", "is not JSON"), ("[1]", "is not a JSON object")):
        path.write_text(text)
        with pytest.raises(UserError, match=rf"config\.json {message}"):
            read_config_beside(tmp_path)
    path.write_text('{"layers": 2}')
    assert read_config_beside(tmp_path) == {"layers": 2}
