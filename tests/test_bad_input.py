"""Bad input ends in one clear line, with exit code 2, and loses nothing."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from data import build
from tests import tiny
from vssflow_jax.clip import ClipSpec
from vssflow_jax.evaluate import evaluator
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.input_pipeline import dataset, records
from vssflow_jax.run.workdir import read_metrics
from vssflow_jax.utils.errors import UserError


def shard(data: Path, split: str = "train_visualtts") -> Path:
    """The first shard of a split."""
    return min((data / dataset.NAME / dataset.SCHEMA_VERSION).glob(f"*-{split}.*"))


def rewrite_shard(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write a shard anew with `change` done to the values of each of its records."""
    widths = dataset.open_metadata(path.parents[2])[2]["widths"]
    reader = ArrayRecordReader(str(path))
    encoded = reader.read_all()
    reader.close()
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for record in encoded:
        values = records.decode(record, widths)
        change(values)
        writer.write(records.encode(values, widths))
    writer.close()


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def age(path: Path) -> None:
    rewrite_shard(path, lambda values: values.update(schema_version="0.9.0"))


def poison(path: Path) -> None:
    def put_nan(values: dict[str, Any]) -> None:
        values["lips"] = np.full_like(values["lips"], np.nan)

    rewrite_shard(path, put_nan)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove, r"shard .*train_visualtts.* is missing"),
        (truncate, r"shard .*train_visualtts.* is damaged: 0 of \d+ records"),
        (age, r"train_visualtts, record \d+: schema 0.9.0, this code reads 2.0.0"),
        (poison, r"train_visualtts, record \d+ \(train-speech-\d+\): lips holds NaN"),
    ],
)
def test_damaged_shards(
    own_data: Path, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    damage(shard(own_data))
    with pytest.raises(UserError, match=says):
        tiny.train(tiny.config(own_data), tmp_path / "run")


def test_a_dataset_of_another_schema_version(own_data: Path, tmp_path: Path) -> None:
    (own_data / dataset.NAME / dataset.SCHEMA_VERSION).rename(own_data / dataset.NAME / "0.1.0")
    with pytest.raises(UserError, match=r"schema version 0.1.0, this code reads 2.0.0; rebuild"):
        tiny.train(tiny.config(own_data), tmp_path / "run")


def test_damage_does_not_cost_the_run(own_data: Path, tmp_path: Path) -> None:
    command = tiny.command("run_train.py", own_data, tmp_path / "run", train__steps=3)
    assert tiny.run(command).returncode == 0
    whole = shutil.copy(shard(own_data), tmp_path / "shard")
    truncate(shard(own_data))
    longer = tiny.command("run_train.py", own_data, tmp_path / "run", train__steps=6)
    failed = tiny.run(longer)
    assert failed.returncode == 2
    assert one_error_line(failed.stderr).endswith("rebuild it with python -m data.build")
    shutil.copy(whole, shard(own_data))
    assert tiny.run(longer).returncode == 0
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def test_bad_data_in_the_middle_of_a_run(own_data: Path, tmp_path: Path) -> None:
    config = tiny.config(own_data, train__steps=3)
    assert tiny.train(config, tmp_path / "run")
    paths = sorted(shard(own_data).parent.glob("*-train_visualtts.*"))
    whole = [shutil.copy(path, tmp_path) for path in paths]
    for path in paths:
        poison(path)
    config.train.steps = 6
    with pytest.raises(UserError, match="lips holds NaN"):
        tiny.train(config, tmp_path / "run")
    for path, copy in zip(paths, whole, strict=True):
        shutil.copy(copy, path)
    assert tiny.train(config, tmp_path / "run")
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def test_a_run_goes_on_with_its_own_dataset_only(own_data: Path, tmp_path: Path) -> None:
    assert tiny.train(tiny.config(own_data, train__steps=2), tmp_path / "run")
    info = shard(own_data).parent
    rebuilt = tfds.builder_from_directory(info).info
    keep = [split for name, split in rebuilt.splits.items() if name != "test_joint"]
    rebuilt.set_splits(tfds.core.splits.SplitDict(keep))
    rebuilt.write_to_directory(info)
    with pytest.raises(UserError, match="the workdir's run was trained on"):
        tiny.train(tiny.config(own_data, train__steps=4), tmp_path / "run")


def one_error_line(stderr: str) -> str:
    """The only line of an error, and no traceback."""
    assert "Traceback" not in stderr
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    return line


def test_a_workdir_of_another_run(demo_data: Path, tmp_path: Path) -> None:
    tiny.train(tiny.config(demo_data, train__steps=1), tmp_path / "run")
    before = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    with pytest.raises(UserError, match=r"train.batch_size is 8 there and 4 here"):
        tiny.train(tiny.config(demo_data, train__batch_size=4), tmp_path / "run")
    other = tiny.config(demo_data, model__transformer__layers=3)
    with pytest.raises(UserError, match=r"model.transformer.layers is 2 there and 3 here"):
        evaluator.evaluate(other, Benchmark("x"), tmp_path / "out", tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == before


def test_no_test_split(own_data: Path, tmp_path: Path) -> None:
    info = own_data / dataset.NAME / dataset.SCHEMA_VERSION
    rebuilt = tfds.builder_from_directory(info).info
    keep = [split for name, split in rebuilt.splits.items() if name.startswith("train")]
    rebuilt.set_splits(tfds.core.splits.SplitDict(keep))
    rebuilt.write_to_directory(info)
    config = tiny.config(own_data)
    config.eval.after_training = True
    with pytest.raises(UserError, match="no test split"):
        tiny.train(config, tmp_path / "run")
    config.eval.after_training = False
    assert tiny.train(config, tmp_path / "run")
    with pytest.raises(UserError, match="no test split"):
        evaluator.evaluate(config, Benchmark("x"), tmp_path / "out", tmp_path / "run")


def test_a_full_disk_while_saving(demo_data: Path, tmp_path: Path) -> None:
    """Files may grow to 64 KiB: rows can be written, checkpoints cannot."""
    command = tiny.command("run_train.py", demo_data, tmp_path / "run", train__steps=4)
    limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "limited", *command]
    failed = tiny.run(limited, {"JAX_COMPILATION_CACHE_DIR": ""})
    assert failed.returncode == 2, failed.stderr
    assert "no room for" in one_error_line(failed.stderr)
    done = tiny.run(command)
    assert done.returncode == 0, done.stderr
    assert read_metrics(tmp_path / "run")[-1]["step"] == 4


def test_too_little_room_for_a_checkpoint(
    demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config(demo_data, train__steps=4, train__checkpoint_every=2)
    tiny.train(config, tmp_path / "run")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    config.train.steps = 6
    with pytest.raises(UserError, match=r"no room for .* MB .*; the last whole one is step 4"):
        tiny.train(config, tmp_path / "run")
    monkeypatch.undo()
    assert tiny.train(config, tmp_path / "run")


def test_a_loss_that_is_no_number(demo_data: Path, tmp_path: Path) -> None:
    config = tiny.config(demo_data, train__learning_rate=1e30, train__warmup_steps=0)
    with pytest.raises(UserError, match=r"the loss is (nan|inf).* lower train.learning_rate"):
        tiny.train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--config.train.stepz=3", "no field 'stepz'; did you mean 'steps'"),
        ("--config.trian.steps=3", "no field 'trian'; did you mean 'train'"),
        ("--config.train.steps=many", "invalid literal"),
        ("--confg.seed=1", "confg"),
        ("--config.train.batch_size=0", "train.batch_size is 0; it must be at least 1"),
        ("--config.train.schedule=steps", "choose one of: constant, linear, cosine, wsd"),
        (
            "--config.train.optimizer=schedule_free_adamw",
            "train.ema_decay is 0.99, but 'schedule_free_adamw' averages by itself",
        ),
        ("--config.model.placement=everywhere", "choose one of: none, video_text"),
        ("--config.eval.sampler.method=rk5", "choose one of: euler, midpoint, heun"),
        ("--config.data.mixture.weights.v2s=-1", "give at least one above 0, none below"),
        ("--config.data.mixture.synthetic_ratio=2.0", "choose from 0 to 1"),
        ("--config.data.num_train=17", "made with num_train=16, the config says 17"),
        ("--config.clip.duration_sec=2.0", "made for clip.duration_sec = 3.0, the config says 2.0"),
        ("--config.clip.duration_sec=2.99", "must be a multiple of 0.04 s"),
        ("config.seed=1", "unexpected argument 'config.seed=1'"),
        ("--config.train.log_every=0", "train.log_every is 0; it must be at least 1"),
        ("--config.train.steps=50", "the learning rate is 0 from step 40 on"),
        ("--config.model.dtype=float16", "choose one of: float32, bfloat16"),
        ("--workdir=setup.py", "setup.py"),
        ("--config=configs/nothing.py", "configs/nothing.py"),
        ("--seed=1", "Unknown command line flag 'seed'"),
        ("--config.model.widths.lips.features=81", "lips has 80 channels there, 81 in the config"),
    ],
)
def test_bad_flags(demo_data: Path, tmp_path: Path, flag: str, says: str) -> None:
    command = tiny.command("run_train.py", demo_data, tmp_path / "run")
    failed = tiny.run([*command, flag])
    assert failed.returncode == 2
    assert says in one_error_line(failed.stderr)


def test_evaluation_before_training(demo_data: Path, tmp_path: Path) -> None:
    failed = tiny.run(tiny.command("run_eval.py", demo_data, tmp_path / "run"))
    assert failed.returncode == 2
    assert "no run in" in one_error_line(failed.stderr)
    assert not (tmp_path / "run").exists()


def test_a_mesh_axis_that_nothing_lies_on(demo_data: Path, tmp_path: Path) -> None:
    command = tiny.command("run_train.py", demo_data, tmp_path / "run", sharding__mesh__tensor=2)
    failed = tiny.run(command, {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"})
    assert failed.returncode == 2
    assert "sharding.mesh.tensor is 2" in one_error_line(failed.stderr)


def test_demo_clips_of_another_length(tmp_path: Path) -> None:
    config = tiny.config(tmp_path / "data", clip__duration_sec=2.0)
    with pytest.raises(UserError, match=r"demo clips last 3.0 s"):
        build.ensure(config.data, ClipSpec(**config.clip))


@pytest.mark.parametrize("script", ["run_train.py", "run_eval.py"])
def test_a_platform_that_is_not_there(script: str, demo_data: Path, tmp_path: Path) -> None:
    command = tiny.command(script, demo_data, tmp_path / "run")
    failed = tiny.run(command, {"JAX_PLATFORMS": "cuda"})
    assert failed.returncode == 2
    assert "JAX_PLATFORMS is 'cuda', but JAX cannot start such devices (there are none" in (
        one_error_line(failed.stderr)
    )
    assert not (tmp_path / "run").exists()
