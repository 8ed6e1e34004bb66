"""Statistics of a dataset's sounds: there, right, added to older datasets, and never half there."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from data import build, latent_stats
from tests import tiny
from vssflow_jax.audio import mel
from vssflow_jax.audio.codec import PatchDct
from vssflow_jax.clip import ClipSpec, fit_length, to_float
from vssflow_jax.input_pipeline.dataset import LATENT_STATS, Dataset
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.utils.errors import UserError

SPEC = ClipSpec(duration_sec=3.0)


def stats_file(data: Path) -> Path:
    (file,) = data.glob(f"vssflow/*/{LATENT_STATS}")
    return file


def test_latents_of_the_training_sounds_have_mean_zero_and_unit_variance(demo_data: Path) -> None:
    dataset = Dataset(demo_data, SPEC)
    sounds = [
        to_float(fit_length(clip.features.sound, SPEC.num_samples))
        for task in TASKS
        if dataset.count("train", task)
        for source in [dataset.clips("train", task)]
        for clip in (source[index] for index in range(len(source)))
    ]
    assert len(sounds) == tiny.NUM_TRAIN < latent_stats.CLIPS
    codec = PatchDct()
    log_mels = mel.log_mel(jnp.asarray(np.stack(sounds)), SPEC.mel_frames)
    latents = codec.encode(codec.load(dataset.latent_stats), log_mels).mean
    np.testing.assert_allclose(np.mean(latents, axis=(0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(np.mean(np.var(latents, axis=(0, 1))), 1, rtol=1e-3)


def test_a_dataset_without_them_gets_the_same(own_data: Path) -> None:
    file = stats_file(own_data)
    there = file.read_text()
    file.unlink()
    assert Dataset(own_data, SPEC).latent_stats is None
    config = tiny.config(own_data)
    build.ensure(config.data, SPEC, config.codec)
    assert file.read_text() == there
    assert [*file.parent.glob("*.partial")] == []


def test_without_them_a_run_says_how_to_get_them(own_data: Path, tmp_path: Path) -> None:
    stats_file(own_data).unlink()
    with pytest.raises(UserError, match=r"python -m data\.build, given as before"):
        tiny.train(tiny.config(own_data), tmp_path / "run")


@pytest.mark.parametrize("content", ["", "[]", '{"mean": [0.0], "scale": [1.0]}', '{"mean": 3}'])
def test_a_damaged_file_is_one_line(own_data: Path, content: str) -> None:
    stats_file(own_data).write_text(content)
    with pytest.raises(UserError, match=r"latent_stats\.json is damaged .*delete it and rebuild"):
        _ = Dataset(own_data, SPEC).latent_stats


def test_a_damaged_shard_is_one_line(own_data: Path) -> None:
    stats_file(own_data).unlink()
    (shard, *_) = sorted(own_data.glob("vssflow/*/*-train_v2s.*"))
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(UserError, match="train_v2s"):
        latent_stats.add(own_data)


def test_stats_are_plain_numbers(demo_data: Path) -> None:
    found = json.loads(stats_file(demo_data).read_text())
    assert {name: len(values) for name, values in found.items()} == {"mean": 128, "scale": 128}
    assert min(found["scale"]) > 0
