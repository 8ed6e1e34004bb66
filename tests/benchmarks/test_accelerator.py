"""The benchmark of an accelerator: runs with little installed, and its PyTorch does what we do."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from benchmarks.accelerator import correctness
from benchmarks.accelerator.in_torch import make_stack
from benchmarks.accelerator.items import DOES_NOT_FIT, LEFT_OUT, Clock, Item, rows
from benchmarks.accelerator.parts import PARTS
from benchmarks.accelerator.report import Report
from benchmarks.accelerator.sizes import FULL, QUICK, make_experiment
from configs import vssflow
from tests import tiny
from tests.helpers import randomised, tiny_transformer_config
from vssflow_jax.models.transformer import Transformer

# What a machine with an accelerator may lack.
LACKING = (
    *("array_record", "av", "grain", "joblib", "librosa", "ml_collections", "PIL"),
    *("safetensors", "soundfile", "tensorflow", "tensorflow_datasets", "tqdm"),
)
FRAMES, CLIPS = 6, 2


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment whose processes find none of `LACKING`."""
    folder = tmp_path / "bare"
    folder.mkdir()
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in LACKING)]
    (folder / "sitecustomize.py").write_text("\n".join(lines))
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(tiny.ROOT)])}


def test_all_parts_run_where_little_is_installed(bare: dict[str, str], tmp_path: Path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "benchmarks.accelerator", "--quick", f"--out={out}"]
    done = tiny.run([*command, "--minutes=15"], env=bare, timeout_sec=1000)
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "accelerator.json").read_text())
    assert found["device"].startswith("cpu")
    assert [*dict.fromkeys(row["part"] for row in found["rows"])] == [*PARTS]
    assert not [row for row in found["rows"] if row.get("result") in (LEFT_OUT, DOES_NOT_FIT)]
    judged = [row["result"] for row in found["rows"] if row["part"] == "correctness"]
    assert judged
    assert all(result.startswith("right: ") for result in judged)
    compared = {row["pair"] for row in found["rows"] if "times_jax" in row}
    assert compared == {row["pair"] for row in found["rows"] if "pair" in row}
    assert all(row["ms"] > 0 for row in found["rows"] if row["part"] != "correctness")
    table = (out / "accelerator.md").read_text()
    assert table in done.stdout
    for row in found["rows"]:
        assert f"| {row['part']} | {row['item']} |" in table


def test_a_part_that_dies_is_a_row_and_an_error(bare: dict[str, str], tmp_path: Path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "benchmarks.accelerator", "--only=matmul", f"--out={out}"]
    done = tiny.run(command, env={**bare, "JAX_PLATFORMS": "nonsense"})
    assert done.returncode == 1
    assert "| matmul | the rest | process ended with 1 |" in (out / "accelerator.md").read_text()


def test_without_time_nothing_is_begun(bare: dict[str, str], tmp_path: Path):
    command = [sys.executable, "-m", "benchmarks.accelerator", "--quick", "--minutes=0"]
    done = tiny.run([*command, f"--out={tmp_path}", "--only=train,xl"], env=bare)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "accelerator.json").read_text())["rows"]
    assert found == [{"part": x, "item": "all", "result": LEFT_OUT} for x in ("train", "xl")]


@pytest.mark.parametrize("given", ["--only=train,mat", "--out"])
def test_bad_flags_end_with_2(given: str, bare: dict[str, str]):
    done = tiny.run([sys.executable, "-m", "benchmarks.accelerator", "--out=x", given], env=bare)
    assert done.returncode == 2
    assert "no part 'mat'" in done.stderr or "expected one argument" in done.stderr


# -------------------------------------------------------------------------------------------- items
def test_what_does_not_fit_ends_its_ladder_alone():
    def too_large() -> dict[str, float]:
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes")

    def broken() -> dict[str, float]:
        raise ValueError("a\nb")

    def measured() -> dict[str, float]:
        return {"ms": 1.0}

    items = [
        Item("small", measured, "ladder"),
        Item("large", too_large, "ladder"),
        Item("larger", measured, "ladder"),
        Item("by itself", too_large),
        Item("broken", broken),
        Item("another", measured),
    ]
    found = [
        {name: value for name, value in row.items() if name != "item_sec"}
        for row in rows(items, time.time() + 60)
    ]
    assert found == [
        {"item": "small", "ms": 1.0},
        {"item": "large", "result": DOES_NOT_FIT},
        {"item": "by itself", "result": DOES_NOT_FIT},
        {"item": "broken", "result": "failed: ValueError: a b"},
        {"item": "another", "ms": 1.0},
    ]


@pytest.mark.parametrize(
    ("found", "told"), [(1.0, "right: "), (1.01, "WRONG: "), (np.nan, "WRONG: ")]
)
def test_what_is_wrong_is_told(found: float, told: str, monkeypatch: pytest.MonkeyPatch):
    first = next(iter(correctness.correctness(QUICK)))
    # What is right is asked for without saying how it is computed.
    monkeypatch.setattr(
        correctness, "_computed", lambda of, device, **how: np.full(3, found if how else 1.0)
    )
    assert first.measure()["result"].startswith(told)


def test_after_the_deadline_items_are_named_only():
    def items() -> Iterator[Item]:
        yield Item("late", lambda: pytest.fail("begun"))

    assert [*rows(items(), time.time())] == [{"item": "late", "result": LEFT_OUT}]


def test_a_clock_measures_a_call():
    clock = Clock(rounds=3, round_sec=0.05)
    assert 0.01 <= clock.seconds(lambda: time.sleep(0.01), lambda _: None) < 0.1


def test_a_report_holds_what_follows_from_rows(tmp_path: Path):
    report = Report(tmp_path, "command")
    report.add("matmul", {"item": "small", "ms": 1.0, "tflops": 50.0})
    report.add("matmul", {"item": "large", "ms": 1.0, "tflops": 100.0})
    report.add("blocks", {"item": "ours", "ms": 2.0, "tflops": 25.0, "pair": "a"})
    assert (tmp_path / "accelerator.json").exists()
    report.add("torch", {"item": "theirs", "ms": 3.0, "tflops": 20.0, "pair": "a"})
    found = json.loads((tmp_path / "accelerator.json").read_text())["rows"]
    assert [row.get("of_matmul") for row in found] == [0.5, 1.0, 0.25, 0.2]
    assert [row.get("times_jax") for row in found] == [None, None, None, 1.5]
    assert "| torch | theirs | 3 | 20 | 20% | 1.50 |" in report.table()


# -------------------------------------------------------------------------------------------- sizes
@pytest.mark.parametrize("size", ["base", "xl"])
def test_full_size_is_that_of_the_config(size: str):
    config = vssflow.get_config(size)
    experiment = make_experiment(FULL, size, 16)
    assert experiment.spec.duration_sec == config.clip.duration_sec
    sizes = {
        name: getattr(experiment.model.transformer, name)
        for name in config.model.transformer
        if name not in ("attention", "token_multiple", "remat", "unroll")  # by the devices
    }
    assert sizes == {name: config.model.transformer[name] for name in sizes}
    assert experiment.train.batch_size == 16


def test_quick_size_is_cut_down_from_the_demo():
    transformer = make_experiment(QUICK, "base", 2).model.transformer
    assert (transformer.layers, transformer.heads, transformer.width) == (2, 4, 192)


# ------------------------------------------------------------------------------------------ PyTorch
def test_blocks_of_pytorch_are_ours():
    cfg = tiny_transformer_config()
    ours = randomised(lambda: Transformer(cfg, rngs=nnx.Rngs(0)))
    theirs = make_stack(cfg, 1 + FRAMES)
    theirs.load_state_dict(
        {**dict(theirs.named_buffers()), **dict(weights_of(nnx.to_pure_dict(nnx.state(ours))))}
    )
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((CLIPS, FRAMES, cfg.width), np.float32)
    context = rng.standard_normal((CLIPS, 1 + FRAMES, cfg.context_width), np.float32)
    t = rng.uniform(size=CLIPS).astype(np.float32)
    expected = ours(*map(jnp.asarray, (frames, t, context)))
    with torch.no_grad():
        found = theirs(*map(torch.from_numpy, (frames, t, context)))
    np.testing.assert_allclose(found.numpy(), np.asarray(expected), atol=1e-4)


def weights_of(state: dict) -> Iterator[tuple[str, torch.Tensor]]:
    """Our weights under the names of PyTorch's; its maps are [out, in]."""

    def linear(weight: jax.Array, inputs: int = 1) -> torch.Tensor:
        matrix = np.asarray(weight).reshape(int(np.prod(weight.shape[:inputs])), -1)
        return torch.from_numpy(np.ascontiguousarray(matrix.T))

    def vector(weight: jax.Array) -> torch.Tensor:
        return torch.from_numpy(np.array(weight))

    time_of = state["time"]
    yield "frequencies", vector(time_of["frequencies"])
    for name in ("inner", "outer"):
        yield f"time_{name}.weight", linear(time_of[name]["w_io"])
        yield f"time_{name}.bias", vector(time_of[name]["b_o"])
    stacked = state["blocks"]
    for layer in range(len(stacked["norm1"]["scale_d"])):
        block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked)
        prefix = f"blocks.{layer}"
        for name in ("norm1", "norm2", "norm3"):
            yield f"{prefix}.{name}.weight", vector(block[name]["scale_d"])
            yield f"{prefix}.{name}.bias", vector(block[name]["bias_d"])
        for name in ("self_attention", "cross_attention"):
            for part, key in (("q", "q_dhk"), ("k", "k_egk"), ("v", "v_egk")):
                yield f"{prefix}.{name}.{part}.weight", linear(block[name][key])
            yield f"{prefix}.{name}.out.weight", linear(block[name]["out_hkd"], inputs=2)
        both = [block["ffw"][name] for name in ("value", "gate")]
        yield f"{prefix}.value_and_gate.weight", torch.cat([linear(x["w_io"]) for x in both])
        yield f"{prefix}.value_and_gate.bias", torch.cat([vector(x["b_o"]) for x in both])
        yield f"{prefix}.ffw_out.weight", linear(block["ffw"]["out"]["w_io"])
        yield f"{prefix}.ffw_out.bias", vector(block["ffw"]["out"]["b_o"])
