"""Files of tensors as PyTorch projects leave them, whole and damaged."""

import argparse
import collections
import datetime
import enum
import json
import operator
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.state_dict import (
    PLAIN,
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


@pytest.mark.parametrize("length", [5, 8, 40])
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


def test_a_tensor_is_of_the_shard_that_the_index_names(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    first, last = (tmp_path / f"model-{i}.safetensors" for i in (0, 1))
    held = load_file(last)
    save_file(held | {name: 0 * x for name, x in load_file(first).items()}, last)
    assert_is_tensors(read_state_dict(index))


def test_shards_of_torch_are_read(tmp_path: Path) -> None:
    torch.save({"single": TENSORS["single"]}, tmp_path / "pytorch_model-00001-of-00002.bin")
    rest = {name: x for name, x in TENSORS.items() if name != "single"}
    torch.save(rest, tmp_path / "pytorch_model-00002-of-00002.bin")
    names = {"single": "pytorch_model-00001-of-00002.bin"}
    places = dict.fromkeys(rest, "pytorch_model-00002-of-00002.bin") | names
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert_is_tensors(read_state_dict(tmp_path))
    index.write_text(json.dumps({"weight_map": {"single": 1}}))
    with pytest.raises(UserError, match="no 'weight_map' from tensors to files"):
        read_state_dict(tmp_path)


def test_eight_bits_of_floating_point_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3).to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="'a' is F8_E4M3, quantised numbers, which are not read"):
        read_state_dict(tmp_path)


class Callback:
    """Of a module that is not there where the file is read."""

    def __init__(self, value: object):
        self.value = value


class Level(enum.Enum):
    LOW = 1


ELSEWHERE = ("somebody", "somebody.elses", "somebody.elses.trainer")
Callback.__module__ = Level.__module__ = ELSEWHERE[-1]


def of_a_trainer(folder: Path, **options: Any) -> Path:
    """What a trainer leaves: settings, callbacks and an optimizer beside the tensors."""
    path = folder / "last.ckpt"
    parts = {
        "epoch": 1,
        "callbacks": {"Checkpoint{'mode': 'min'}": {"best": torch.tensor(0.5), "dir": folder}},
        "hyper_parameters": argparse.Namespace(path=folder, level=Level.LOW, rates=np.ones(2)),
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3)}}, "param_groups": [{}]}],
        "own": [Callback(1), {Callback(2)}, collections.defaultdict(list, a=[Callback(3)])],
        "date": datetime.datetime(2026, 1, 1),
        "state_dict": collections.OrderedDict(TENSORS),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ELSEWHERE:
            patch.setitem(sys.modules, name, types.ModuleType(name))
        vars(sys.modules[ELSEWHERE[-1]]).update(Callback=Callback, Level=Level)
        torch.save(parts, path, **options)
    return path


ZIP_AND_LEGACY = [{}, {"_use_new_zipfile_serialization": False}]


@pytest.mark.parametrize("options", ZIP_AND_LEGACY)
def test_tensors_are_read_out_of_a_trainers_checkpoint(options: Any, tmp_path: Path) -> None:
    assert_is_tensors(read_state_dict(of_a_trainer(tmp_path, **options)))


class Attack:
    """Calls a function, if it is ever read."""

    def __init__(self, function: Any, *arguments: Any):
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.reduced


@pytest.mark.parametrize("options", ZIP_AND_LEGACY)
@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, r"(posix|nt)\.system"), (eval, r"builtins\.eval"), (exec, r"builtins\.exec")],
)
def test_a_file_that_wants_to_run_code_is_refused_by_name(
    function: Any, named: str, options: Any, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    text = f"touch {ran}" if function is os.system else f"open({str(ran)!r}, 'w')"
    attack = {"callbacks": [Attack(function, text)], "state_dict": TENSORS}
    torch.save(attack, tmp_path / "last.ckpt", **options)
    with pytest.raises(UserError, match=rf"last\.ckpt asks to run {named}"):
        read_state_dict(tmp_path)
    assert not ran.exists()


def test_what_is_not_known_is_not_run_either(tmp_path: Path) -> None:
    chain = Attack(getattr, Attack(operator.attrgetter, "system"), "__call__")
    spy = Attack(torch.hub.load_state_dict_from_url, "http://nowhere.invalid/x.pt")
    torch.save({"hparams": [chain, spy], "state_dict": TENSORS}, tmp_path / "last.ckpt")
    assert_is_tensors(read_state_dict(tmp_path))


class Program(torch.nn.Module):
    """In TorchScript: writes a file when it is loaded."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self.weight = torch.nn.Parameter(torch.ones(2, 3))

    @torch.jit.export
    def __getstate__(self) -> tuple[str, torch.Tensor, bool]:
        return self.path, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, torch.Tensor, bool]) -> None:
        self.path, self.weight, self.training = state
        torch.save(self.weight, self.path)


def test_a_torchscript_program_is_refused_and_not_run(tmp_path: Path) -> None:
    ran, path = tmp_path / "ran", tmp_path / "model.pt"
    torch.jit.script(Program(str(ran))).save(str(path))
    with pytest.raises(UserError, match=r"model\.pt is a TorchScript program, not weights; save"):
        read_state_dict(path)
    assert not ran.exists()
    torch.jit.load(path)
    assert ran.exists()


# --------------------------------------------------------------------- names that wrappers write
NETWORK = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.Linear(3, 2)))
NAMES = ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]


def named(path: Path) -> dict[str, np.ndarray]:
    found = read_state_dict(path)
    return {name: value for name, value in found.items() if not name.startswith(PLAIN)}


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: name.replace("1.0.", "1._orig_mod.0."),
        lambda name: name.replace("1.0.", "1._fsdp_wrapped_module._checkpoint_wrapped_module.0."),
    ],
)
def test_what_wrappers_put_into_names_is_taken_out(
    spell: Callable[[str], str], tmp_path: Path
) -> None:
    state_dict = {spell(name): value for name, value in NETWORK.state_dict().items()}
    save_file(state_dict, tmp_path / "model.safetensors")
    assert sorted(named(tmp_path)) == sorted(NAMES)


def write_swa(path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(NETWORK)
    averaged.update_parameters(NETWORK)
    torch.save(averaged.state_dict(), path)


def both(plain: str, averaged: str, *, dots: bool = True) -> Callable[[Path], None]:
    """Writes the network and twice its weights as an average of it."""

    def write(path: Path) -> None:
        state_dict = NETWORK.state_dict()
        spelt = {name: name if dots else name.replace(".", "") for name in state_dict}
        values = {plain + name: value for name, value in state_dict.items()}
        values |= {averaged + spelt[name]: 2 * value for name, value in state_dict.items()}
        values |= {f"{averaged}decay": torch.tensor(0.9), "step": torch.tensor(3)}
        torch.save({"state_dict": values}, path)

    return write


def beside(plain: str, averaged: str) -> Callable[[Path], None]:
    return parts(lambda state_dict, twice: {plain: state_dict, averaged: twice, "epoch": 3})


def parts(make: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]) -> Callable:
    """Writes what is made of the network's state dict, and of one with twice its weights."""

    def write(path: Path) -> None:
        state_dict = NETWORK.state_dict()
        torch.save(make(state_dict, {name: 2 * value for name, value in state_dict.items()}), path)

    return write


def prefixed(prefix: str, state_dict: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in state_dict.items()}


@pytest.mark.parametrize(
    ("write", "times"),
    [
        (write_swa, 1),
        (both("", "ema."), 2),
        (both("online_model.", "ema_model."), 2),  # as ema-pytorch does
        (both("", "model_ema.", dots=False), 2),  # as latent-diffusion does
        (beside("state_dict", "state_dict_ema"), 2),  # as timm does
        (beside("model", "ema"), 2),
        (beside("params", "params_ema"), 2),  # as BasicSR does
        (parts(lambda sd, twice: {"model": sd, "ema": {"model": twice, "step": 3}}), 2),
        (parts(lambda sd, twice: {"net": sd, "ema": {"shadow": twice, "n": torch.ones(())}}), 2),
        (
            parts(
                lambda sd, twice: {
                    "state_dict": sd,
                    "callbacks": {"EMA": {"ema_state_dict": twice}, "Stop": {"best": 0.1}},
                }
            ),
            2,
        ),
        (parts(lambda sd, twice: {"state_dict": sd, "trainer": {"ema": twice}}), 2),
        (parts(lambda sd, twice: {"state_dict": prefixed("model.", sd), "ema": twice}), 2),
        # As projects save an EMA of ema-pytorch.
        (
            parts(
                lambda sd, twice: {
                    "model": sd,
                    "ema": prefixed("online_model.", sd) | prefixed("ema_model.", twice),
                }
            ),
            2,
        ),
        # Settings of an average, and no average.
        (
            parts(
                lambda sd, _: {
                    "state_dict": sd,
                    "ema": 0.9,
                    "hyper_parameters": {"ema": argparse.Namespace(decay=0.9)},
                    "callbacks": {"EMA": {"ema": {"decay": torch.tensor(0.9)}}},
                }
            ),
            1,
        ),
    ],
)
def test_the_average_is_taken_where_there_is_one(
    write: Callable[[Path], None], times: int, tmp_path: Path
) -> None:
    write(tmp_path / "last.pt")
    found = named(tmp_path)
    assert sorted(found) == sorted(NAMES)
    for name, value in NETWORK.state_dict().items():
        np.testing.assert_array_equal(found[name], times * value.numpy())
    others = [name for name in read_state_dict(tmp_path) if name.startswith(PLAIN)]
    assert len(others) == (0 if times == 1 else len(NAMES))


def test_it_is_said_what_other_state_dicts_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gan.pt"
    others = {"model_d": {"weight": torch.ones(2)}, "optimizer": {"state": {}, "param_groups": []}}
    torch.save({"model": TENSORS, **others}, path)
    assert_is_tensors(read_state_dict(path))
    line = f"{path}: takes 'model'; other state dicts in it are left out: model_d\n"
    assert capsys.readouterr().out == line


def test_it_is_said_which_copy_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "last.pt"
    beside("state_dict", "ema")(path)
    read_state_dict(path)
    assert capsys.readouterr().out == (
        f"{path}: takes the averaged weights; those that are not averaged are left over\n"
    )
    torch.save(NETWORK.state_dict(), path)
    read_state_dict(path)
    assert capsys.readouterr().out == ""


def without_dots(state_dict: dict[str, Any]) -> dict[str, Any]:
    return {name.replace(".", ""): value for name, value in state_dict.items()}


def test_latent_diffusions_average_may_be_of_a_part_of_the_network(tmp_path: Path) -> None:
    plain = prefixed("vaflow.", NETWORK.state_dict())
    twice = {name: 2 * value for name, value in NETWORK.state_dict().items()}
    others = {"head.weight": torch.ones(2), "model_ema.num_updates": torch.tensor(3)}
    held = plain | others | prefixed("model_ema.", without_dots(twice))
    torch.save({"state_dict": held}, tmp_path / "last.pt")
    found = named(tmp_path)
    assert sorted(found) == sorted(["head.weight", *plain])
    for name, value in twice.items():
        np.testing.assert_array_equal(found[f"vaflow.{name}"], value.numpy())


def test_the_average_of_one_of_two_like_parts_is_not_guessed(tmp_path: Path) -> None:
    state_dict = NETWORK.state_dict()
    plain = prefixed("student.", state_dict) | prefixed("teacher.", state_dict)
    averaged = without_dots(state_dict)
    torch.save(plain | prefixed("model_ema.", averaged), tmp_path / "last.pt")
    assert sorted(named(tmp_path)) == sorted([*plain, *averaged])


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (
            {"ema": {"decay": 0.9, "shadow_params": [torch.ones(2, 3)]}},
            "averaged weights, 'ema', that are not tensors by name but a dict; copy them into",
        ),
        (
            {"callbacks": {"EMA": {"ema_state_dict": [torch.ones(2, 3)]}}},
            r"averaged weights, 'callbacks\.EMA\.ema_state_dict', .* but a list",
        ),
        ({"ema": argparse.Namespace()}, "averaged weights, 'ema', .* but a Namespace"),
        (
            {"ema": TENSORS, "G": {"ema": TENSORS}},
            r"several averaged state dicts, ema, G\.ema; save",
        ),
    ],
)
def test_an_average_that_cannot_be_used_is_named(
    parts: dict[str, Any], says: str, tmp_path: Path
) -> None:
    torch.save({"state_dict": TENSORS} | parts, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=rf"last\.ckpt holds {says}"):
        read_state_dict(tmp_path)


# ----------------------------------------------------------------- odd entries beside the tensors
@pytest.mark.parametrize("key", ["state_dict", "model", "net"])
@pytest.mark.parametrize("odd", [{}, [1], datetime.date(2026, 1, 1), {"a": torch.ones(2)}])
def test_odd_entries_of_a_state_dict_are_passed_over(key: str, odd: Any, tmp_path: Path) -> None:
    torch.save({key: TENSORS | {"x._extra_state": {}, "x.odd": odd}}, tmp_path / "last.ckpt")
    assert_is_tensors(read_state_dict(tmp_path))


def test_what_modules_add_to_a_bare_state_dict_is_passed_over(tmp_path: Path) -> None:
    torch.save(TENSORS | {"x._extra_state": {"scale": [1]}}, tmp_path / "last.pt")
    assert_is_tensors(read_state_dict(tmp_path))


@pytest.mark.parametrize("options", [*ZIP_AND_LEGACY, {"pickle_protocol": 4}])
@pytest.mark.parametrize("bare", [True, False])
def test_arrays_of_numpy_are_tensors(bare: bool, options: Any, tmp_path: Path) -> None:
    arrays = {
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.arange(6, dtype=np.float64).reshape(2, 3).T,
        "big": np.arange(3, dtype=">f4"),
        "empty": np.zeros((0, 3), np.float32),
        "whole": np.array([7, 8]),
        "short": np.ones(2, np.float16),
    }
    others = {"words": np.array(["a"]), "objects": np.array([{}]), "record": np.zeros(2, "f4,i4")}
    held = {**TENSORS, **arrays}
    torch.save(held if bare else {"state_dict": held | others}, tmp_path / "last.pt", **options)
    found = read_state_dict(tmp_path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.pop(name), array)
    assert_is_tensors(found)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (TENSORS | {"settings": [1]}, r"no state dict but a dict with a list, 'settings', beside"),
        (
            {"G": TENSORS | {"settings": [1]}, "D": {}},
            r"entries are G \(dict with a list, 'settings', beside its tensors\), D \(dict\)",
        ),
        ({"state_dict": {0: torch.ones(2)}}, r"are state_dict \(dict with 0 for a name\)"),
        ({"model": {"step": torch.tensor(3)}}, r"entries are model \(dict of scalars\)"),
        ({"G": TENSORS, "D": TENSORS}, r"several state dicts, G, D"),
    ],
)
def test_what_keeps_entries_from_being_a_state_dict_is_named(
    held: dict[str, Any], says: str, tmp_path: Path
) -> None:
    torch.save(held, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=rf"last\.ckpt holds .*{says}"):
        read_state_dict(tmp_path)


# ---------------------------------------------------------------------- files that are not weights
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LFS_POINTER, "is a pointer of Git LFS, not the file itself; run git lfs pull"),
        ("<!DOCTYPE html><html>Sign in</html>", "is a web page, not the file"),
        ("", "is empty"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "last.ckpt", "config.json"])
def test_what_only_stands_for_a_file_is_said(
    name: str, text: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    read = read_config_beside if name == "config.json" else read_state_dict
    with pytest.raises(UserError, match=rf"{name} {says}"):
        read(tmp_path)


def test_a_shard_that_is_a_pointer_is_said(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "model-1.safetensors").write_text(LFS_POINTER)
    with pytest.raises(UserError, match=r"model-1\.safetensors is a pointer of Git LFS"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("length", [10, 900])
def test_a_truncated_checkpoint_is_refused(length: int, tmp_path: Path) -> None:
    path = write_lightning(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"last\.ckpt is not a whole file of torch"):
        read_state_dict(path)


def test_a_checkpoint_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "last.ckpt")
    with pytest.raises(
        UserError, match=r"last\.ckpt holds no state dict; its entries are epoch \(int\)"
    ):
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
