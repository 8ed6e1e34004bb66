"""Batches: shapes, determinism, position, mixture weights, joint synthesis."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import grain
import ml_collections
import numpy as np

from data import builder
from data.features import WEIGHTS_FREE
from tests import tiny
from vssflow_jax.clip import ClipSpec
from vssflow_jax.dataset import Dataset
from vssflow_jax.input import Example, train_batches

SPEC = ClipSpec(duration_sec=3.0)


def batches(data: Path, seed: int = 0, batch_size: int = 8, **mixture: Any) -> grain.IterDataset:
    config: ml_collections.ConfigDict = tiny.config(data).data.mixture
    config.update(mixture)
    return train_batches(Dataset(data, SPEC), config, batch_size, seed)


def task_of(batch: Example, row: int) -> str:
    """What an example must be, from what is absent in it."""
    seen, spoken = batch["clip"][row].any(), batch["phonemes"][row].any()
    if not seen:
        return "tts"
    if not spoken:
        return "v2s"
    right_half = batch["clip"][row].reshape(-1, 4, 6, 3)[:, :, 3:]
    return "joint" if right_half.max() > 0.5 else "visualtts"


def test_every_condition_is_at_the_latent_rate(demo_data: Path) -> None:
    batch = next(iter(batches(demo_data)))
    widths = Dataset(demo_data, SPEC).widths
    for name in ("clip", "synch", "lips"):
        assert batch[name].shape == (8, 75, widths[name])
        assert batch[name].dtype == np.float32
    assert batch["phonemes"].shape == (8, 75)
    assert batch["speaker"].shape == (8, widths["speaker"])
    assert batch["waveform"].shape == (8, 48_000)


def test_batches_depend_on_the_seed_alone(demo_data: Path) -> None:
    first, again, other = (iter(batches(demo_data, seed)) for seed in (1, 1, 2))
    for _ in range(4):
        batch, same = next(first), next(again)
        assert all(np.array_equal(batch[name], same[name]) for name in batch)
        assert not np.array_equal(batch["waveform"], next(other)["waveform"])


def test_the_position_restores_the_very_next_batch(demo_data: Path) -> None:
    iterator = iter(batches(demo_data))
    for _ in range(3):
        next(iterator)
    position = iterator.get_state()
    expected = next(iterator)
    restored = iter(batches(demo_data))
    restored.set_state(position)
    found = next(restored)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_tasks_are_mixed_by_their_weights(demo_data: Path) -> None:
    weights = {"v2s": 0.4, "visualtts": 0.3, "tts": 0.1, "joint": 0.2}
    iterator = iter(batches(demo_data, batch_size=100, weights=weights))
    batch = next(iterator)
    counts = Counter(task_of(batch, row) for row in range(100))
    for task, weight in weights.items():
        assert abs(counts[task] - 100 * weight) <= 2, counts


def test_a_task_of_weight_zero_is_left_out(demo_data: Path) -> None:
    weights = {"v2s": 0.0, "visualtts": 0.0, "tts": 0.0, "joint": 1.0}
    batch = next(iter(batches(demo_data, weights=weights, synthetic_ratio=1.0)))
    assert {task_of(batch, row) for row in range(8)} == {"joint"}


def test_synthetic_joint_clips_are_sums_of_one_sound_and_one_speech(demo_data: Path) -> None:
    weights = {"v2s": 0.0, "visualtts": 0.0, "tts": 0.0, "joint": 1.0}
    batch = next(iter(batches(demo_data, weights=weights, synthetic_ratio=1.0)))
    opened = Dataset(demo_data, SPEC)
    sounds, speeches = opened.clips("train", "v2s"), opened.clips("train", "visualtts")
    for mixed in batch["waveform"]:
        basis = [sounds[i].features.waveform for i in range(len(sounds))]
        basis += [speeches[i].features.waveform for i in range(len(speeches))]
        weights_found = np.linalg.lstsq(np.stack(basis).T, mixed, rcond=None)[0]
        used = np.flatnonzero(np.abs(weights_found) > 1e-3)
        assert len(used) == 2
        sound, speech = used
        assert sound < len(sounds) <= speech
        assert 0.3 <= weights_found[sound] <= 0.7
        np.testing.assert_allclose(weights_found[speech], 1.0, atol=1e-3)


def test_speech_without_a_picture_comes_from_its_own_split_where_there_is_one(
    demo_data: Path, tmp_path: Path
) -> None:
    # One clip of its own, so that it is known by its words.
    rows = {row["clip_id"]: row for row in map(json.loads, manifest(demo_data))}
    spoken = [row for row in rows.values() if row["task"] == "visualtts"]
    train = [row for row in rows.values() if row["split"] == "train"]
    alone = next(row for row in spoken if row["split"] == "train")
    alone = {**alone, "clip_id": "alone", "task": "tts", "mouth_box": None}
    for folder in ("clips", "voices"):
        (tmp_path / folder).symlink_to(demo_data / folder)
    builder.build(
        tmp_path, [*train, alone], WEIGHTS_FREE, SPEC, builder.without_latents, {}, workers=1
    )
    dataset = Dataset(tmp_path, SPEC)
    assert dataset.count("train", "tts") == 1
    only = tiny.config(tmp_path).data.mixture
    only.update(weights={"v2s": 0.0, "visualtts": 0.0, "tts": 1.0, "joint": 0.0})
    batch = next(iter(train_batches(dataset, only, 4, 0)))
    expected = dataset.clips("train", "tts")[0].features.phonemes
    for ids in batch["phonemes"]:
        np.testing.assert_array_equal(ids[: len(expected)], expected)


def manifest(data: Path) -> list[str]:
    return (data / "manifest.jsonl").read_text().splitlines()
