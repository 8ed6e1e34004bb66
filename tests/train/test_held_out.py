"""The loss on clips that training does not see."""

import dataclasses
import json
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import tiny
from vssflow_jax.flow import path
from vssflow_jax.input_pipeline.collate import to_latent_rate
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.run.experiment import Experiment, TrainState
from vssflow_jax.run.initial import initial_state
from vssflow_jax.train.held_out import TIMES, HeldOutLoss
from vssflow_jax.train.step import latents

SEED = 3


def made(data: Path, **overrides: Any) -> tuple[Any, Experiment, Dataset, TrainState]:
    config = tiny.config(data, seed=SEED, **overrides)
    experiment = Experiment.from_config(config)
    dataset = Dataset(config.data.path, experiment.spec)
    state = initial_state(experiment, dataset.latent_stats)
    # The first output map is zero, and would hide the rest.
    key = jax.random.key(1)
    noisy = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(key, x.shape), state.params)
    return config, experiment, dataset, dataclasses.replace(state, params=noisy)


def losses(data: Path, workdir: Path, **overrides: Any) -> dict[str, float]:
    config, experiment, dataset, state = made(data, **overrides)
    return dict(HeldOutLoss(config, experiment, dataset, workdir)(experiment, dataset, state))


def test_it_is_the_loss_of_each_clip_at_each_time(demo_data: Path, tmp_path: Path):
    config, experiment, dataset, state = made(demo_data, train__held_out_clips=2)
    found = dict(HeldOutLoss(config, experiment, dataset, tmp_path)(experiment, dataset, state))
    model = nnx.merge(experiment.network.definition, state.params, state.frozen)
    table: list[list[float]] = []
    by_task: dict[str, list[float]] = {}
    for task in TASKS:
        for index in range(min(2, dataset.count("test", task))):
            clip = dataset.clips("test", task)[index]
            example = to_latent_rate(clip.features, experiment.spec)
            batch = {name: jnp.asarray(value)[None] for name, value in example.items()}
            key = jax.random.fold_in(jax.random.key(SEED), zlib.crc32(clip.clip_id.encode()))
            shape = (experiment.spec.latent_frames, experiment.model.latent_channels)
            noise = jax.random.normal(key, shape)[None]
            target = latents(experiment, state.codec, batch, jnp.zeros_like(noise))
            row = []
            for t in (0.1, 0.3, 0.5, 0.7, 0.9):
                x = (1 - t) * noise + t * target
                v = model(x, jnp.array([t]), model.encode(batch))
                row.append(float(jnp.mean((v - (target - noise)) ** 2)))
            table.append(row)
            by_task.setdefault(task, []).append(float(np.mean(row)))
    assert found["held_out/loss"] == pytest.approx(np.mean(table), rel=1e-5)
    for i in range(path.TIME_BINS):
        assert found[f"held_out/loss_t{i}"] == pytest.approx(np.mean(table, axis=0)[i], rel=1e-5)
    for task, of_clips in by_task.items():
        assert found[f"held_out/{task}"] == pytest.approx(np.mean(of_clips), rel=1e-5)
    np.testing.assert_allclose(TIMES, (0.1, 0.3, 0.5, 0.7, 0.9))
    # The running mean is of the weights before they were moved.
    assert found["held_out/loss_ema"] != found["held_out/loss"]


def test_it_does_not_depend_on_the_batch(demo_data: Path, tmp_path: Path):
    whole = losses(demo_data, tmp_path)
    parts = losses(demo_data, tmp_path, train__batch_size=1)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, rel=1e-5), name
    rows = [json.loads(line) for line in (tmp_path / "held_out.jsonl").read_text().splitlines()]
    assert [f"held_out/{name}" for name in rows[0] if name != "step"] == list(whole)


def test_a_dataset_without_test_clips_has_none(demo_data: Path, tmp_path: Path):
    assert losses(demo_data, tmp_path, train__held_out_clips=0) == {}
    assert not (tmp_path / "held_out.jsonl").exists()


def test_training_writes_its_curve_and_goes_on_alike(demo_data: Path, tmp_path: Path):
    """Two steps at once, or one after the other: the same rows."""
    at_once, in_turn = tmp_path / "once", tmp_path / "turn"
    tiny.train(tiny.config(demo_data, train__steps=2, train__held_out_every=1), at_once)
    for steps in (1, 2):
        tiny.train(tiny.config(demo_data, train__steps=steps, train__held_out_every=1), in_turn)
    texts = [(workdir / "held_out.jsonl").read_text() for workdir in (at_once, in_turn)]
    assert texts[0] == texts[1]
    assert [json.loads(line)["step"] for line in texts[0].splitlines()] == [1, 2]
