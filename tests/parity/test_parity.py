"""Golden data of the reference: every quantity holds, and the runner notices when one does not."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from tests.parity import flow
from tests.parity.__main__ import CHECKS, golden_files, main
from tests.parity.golden import EXACT, SAMPLE, Golden, compare
from vssflow_jax.flow import solvers
from vssflow_jax.flow.guidance import guided
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.models import convert_vssflow
from vssflow_jax.models.vssflow import VSSFlow

OWN = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[3] / "shared" / "golden"
GOLDEN = SHARED if SHARED.is_dir() else OWN


def files(directory: Path) -> dict[str, Path]:
    """The golden files of a directory and those below it, by name."""
    return {path.stem: path for path in golden_files(directory)}


# Some are here alone.
FILES = files(OWN) | files(GOLDEN)


def test_there_is_a_check_for_each_file():
    assert set(files(OWN)) == set(CHECKS)


LARGE = ("imagebind",)  # ten gigabytes while its weights are brought over


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
        for name in FILES
        if name in CHECKS
    ],
)
def test_every_quantity_holds(name: str):
    golden = Golden(FILES[name])
    with jax.default_matmul_precision("highest"):
        rows = [*CHECKS[name](golden), *golden.unseen()]
    assert rows
    assert [row for row in rows if not row.ok] == []


def test_the_command_says_that_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("phones.npz", "metrics_wer.json"):
        shutil.copy(OWN / name, tmp_path)
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "phones/0/out/ids" in printed
    assert "metrics_wer/raw/corpus_wer" in printed
    assert ", 0 failed" in printed


@pytest.mark.parametrize("damage", ["a word", "a count", "a key more"])
def test_the_command_notices_in_texts_too(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    golden = json.loads((OWN / "metrics_wer.json").read_text())
    if damage == "a word":
        golden["raw"]["ref_words"][2][0] += "s"
    if damage == "a count":
        golden["edge"]["lower_nopunct"]["errors_per_utt"][1] += 1
    if damage == "a key more":
        golden["raw"]["cer"] = 0.5
    (tmp_path / "metrics_wer.json").write_text(json.dumps(golden))
    assert main([str(tmp_path)]) == 1
    assert ", 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["a value", "a shape", "a key more", "a file more"])
def test_the_command_notices(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arrays = dict(np.load(OWN / "adamw_small.npz"))
    if damage == "a value":
        arrays["out/params"][3, 2, 1] *= 1.001
    if damage == "a shape":
        arrays["out/lr"] = arrays["out/lr"][:-1]
    if damage == "a key more":
        arrays["out/momentum"] = arrays["out/params"]
    np.savez(tmp_path / "adamw_small.npz", **arrays)
    if damage == "a file more":
        np.savez(tmp_path / "sgd_small.npz", **arrays)
    assert main([str(tmp_path)]) == 1
    assert ", 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("empty", r"adamw_small\.npz is not a whole \.npz file"),
        ("truncated", r"adamw_small\.npz is not a whole \.npz file"),
        ("no archive", r"adamw_small\.npz is not a whole \.npz file"),
        ("a key less", r"adamw_small\.npz lacks 'in/grads'"),
        ("other shapes", r"TypeError: .*\(5, 7\).*"),
    ],
)
def test_a_file_that_cannot_be_checked_fails_by_itself(
    damage: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copy(OWN / "phones.npz", tmp_path)
    path = tmp_path / "adamw_small.npz"
    arrays = dict(np.load(OWN / path.name))
    if damage == "a key less":
        del arrays["in/grads"]
    if damage == "other shapes":
        arrays["in/grads"] = arrays["in/grads"][..., :-1]
    np.savez(path, **arrays)
    if damage == "empty":
        path.write_bytes(b"")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    if damage == "no archive":
        np.save(path.open("wb"), arrays["in/p0"])
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert re.search(rf"^adamw_small \({reason}\) ", printed.replace(f"{tmp_path}/", ""), re.M)
    assert "phones/0/out/ids" in printed
    assert ", 1 failed" in printed


def test_weights_that_lie_in_no_file_beside_it_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copy(OWN / "cfg_small.npz", tmp_path)
    assert main([str(tmp_path)]) == 1
    assert "vaflow_small.npz is missing" in capsys.readouterr().out


def test_errors_are_relative_to_the_largest_magnitude():
    golden = np.array([[0.0, -200.0], [1.0, 2.0]])
    assert compare("x", golden + [[0, 0], [0, 1e-2]], golden, 1e-4).error == pytest.approx(5e-5)
    assert not compare("x", golden * np.nan, golden, 1e9).ok
    assert not compare("x", golden[0], golden, 1e9).ok
    assert compare("ids", np.array([3, 59]), np.array([3, 59]), EXACT).ok
    assert compare("words", np.array(["a", "b"]), np.array(["a", "c"]), EXACT).error == 0.5


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["no/such/folder"]])
def test_bad_arguments_are_one_clear_line(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_an_imported_checkpoint_generates_what_the_reference_does(tmp_path: Path):
    trained, golden = (Golden(GOLDEN / f"{name}.npz") for name in ("vaflow_small", "cfg_small"))
    tensors = trained.below("w/")
    cfg = flow.config_of(trained, tensors)
    save_file(tensors, tmp_path / "reference.safetensors")
    sizes = dataclasses.asdict(cfg)
    del sizes["transformer"]["context_width"]  # which follows from the placement
    config = ml_collections.ConfigDict({"seed": 0, "model": sizes})
    import_weights("vssflow", tmp_path / "reference.safetensors", tmp_path / "imported", config)

    model = nnx.eval_shape(lambda: VSSFlow(cfg, rngs=nnx.Rngs(0)))
    nnx.update(
        model,
        convert_vssflow.load(tmp_path / "imported", cfg, convert_vssflow.abstract_weights(cfg)),
    )
    conditioning = model.encode(flow.resampled(golden))
    solve = solvers.make_solver("euler", 10, 1e-5)
    noise = jnp.swapaxes(golden["in/x0_noise"], 1, 2)
    sample = jax.jit(lambda x: solve(guided(model, conditioning, 3.0), x))(noise)
    expected = golden["out/sample_euler"][:, : noise.shape[-1]]
    assert compare("sample", np.swapaxes(sample, 1, 2), expected, SAMPLE).ok
