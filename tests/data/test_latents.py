"""A learned codec in training: on the way, or with latents from the dataset; weights to start from.

The codec is small and random: what is tested is what goes where.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import ml_collections
import numpy as np
import pytest

from data import build
from data.latents import WithLatents
from tests import tiny
from vssflow_jax.audio.pretrained import AUTOENCODER
from vssflow_jax.clip import ClipSpec
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.evaluator import evaluate
from vssflow_jax.input_pipeline.batches import train_batches
from vssflow_jax.input_pipeline.dataset import ClipSource, Dataset
from vssflow_jax.input_pipeline.example import Clip
from vssflow_jax.input_pipeline.mixture import Mixture
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.models.convert_vssflow import abstract_weights
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.run import workdir
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.train.step import latents
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder as weights

NO_JOINT = {"data__mixture__weights__joint": 0.0}


@pytest.fixture(scope="module")
def vae(folders: dict[str, Path]) -> Path:
    return folders["audioldm_vae"]


def learned(data: Path, vae: Path, **changes: Any) -> ml_collections.ConfigDict:
    return tiny.config(data, codec__kind="audioldm_vae", codec__path=str(vae), **changes)


@pytest.fixture(scope="module")
def data_with_latents(vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data-with-latents")
    config = learned(path, vae, codec__latents="offline", data__num_train=8, data__num_test=3)
    build.ensure(config.data, ClipSpec(**config.clip), config.codec)
    return path


def test_latents_in_the_dataset_are_those_of_the_sound(data_with_latents: Path, vae: Path):
    experiment = Experiment.from_config(learned(data_with_latents, vae))
    dataset = Dataset(data_with_latents, experiment.spec)
    params = experiment.codec.load(None)
    config = learned(data_with_latents, vae, **NO_JOINT)
    mixture = Mixture.from_config(config.data.mixture)
    batches = {
        latents_are: next(iter(train_batches(dataset, mixture, 4, 0, latents_are)))
        for latents_are in ("online", "offline")
    }
    assert batches["offline"].keys() ^ batches["online"].keys() == {"waveform", "posterior"}
    noise = jax.random.normal(jax.random.key(0), (4, experiment.spec.latent_frames, 128))
    online, offline = (latents(experiment, params, batch, noise) for batch in batches.values())
    assert online.shape == (4, experiment.spec.latent_frames, 128)
    np.testing.assert_allclose(online, offline, atol=1e-4)
    other = latents(experiment, params, batches["offline"], -noise)
    assert np.abs(other - offline).max() > 0.1


def test_latents_are_added_to_a_dataset_that_is_there(demo_data: Path, vae: Path, tmp_path: Path):
    command = [sys.executable, "-m", "data.build", "--source=dataset", "--workers=1"]
    done = tiny.run([*command, f"--dataset={demo_data}", f"--vae={vae}", f"--out={tmp_path}"])
    assert done.returncode == 0, done.stderr
    spec = ClipSpec(**tiny.config(demo_data).clip)
    before, after = Dataset(demo_data, spec), Dataset(tmp_path, spec)
    after.check_latents(AUTOENCODER.digest(vae))
    assert after.counts == before.counts
    for part, _, task in (split.partition("_") for split in before.counts):
        sources = before.clips(part, task), after.clips(part, task)
        for old, new in zip(*map(list_of, sources), strict=True):
            assert old.clip_id == new.clip_id
            np.testing.assert_array_equal(old.features.waveform, new.features.waveform)
    samples = np.round(new.features.waveform * 2**15).astype(np.int16)
    source = mock.Mock(record=lambda row: row)
    values = WithLatents(source, vae, spec).record({"audio": samples})
    np.testing.assert_allclose(new.posterior, values["posterior"], atol=1e-5)
    assert (tmp_path / new.video).is_file()


def list_of(source: ClipSource) -> list[Clip]:
    return [source[index] for index in range(len(source))]


@pytest.mark.parametrize("latents_are", ["online", "offline"])
def test_a_run_with_a_learned_codec_resumes(
    latents_are: str, data_with_latents: Path, vae: Path, tmp_path: Path
):
    changes = {
        **NO_JOINT,
        "codec__latents": latents_are,
        "data__num_train": 8,
        "data__num_test": 3,
        "train__batch_size": 4,
        "train__sample_every": 2,
    }
    for steps in (2, 3):
        config = learned(data_with_latents, vae, train__steps=steps, **changes)
        assert tiny.train(config, tmp_path / "run")
    rows = workdir.read_metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"joint clips are made by mixing sounds: set --config\.codec\.latents=online"),
        ({"codec.kind": "patch_dct"}, r"'patch_dct' is fitted to the sounds of a run"),
    ],
)
def test_offline_latents_that_cannot_be(
    changes: dict, message: str, data_with_latents: Path, vae: Path, tmp_path: Path
):
    config = learned(data_with_latents, vae, codec__latents="offline")
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message):
        tiny.train(config, tmp_path / "run")


def test_latents_are_those_of_the_codec(
    demo_data: Path, data_with_latents: Path, vae: Path, tmp_path: Path
):
    config = learned(demo_data, vae, codec__latents="offline", **NO_JOINT)
    with pytest.raises(UserError, match=r"it holds no latents; build it with --vae=DIR"):
        tiny.train(config, tmp_path / "run")
    # The same weights elsewhere are the same codec; other weights are not.
    digest = AUTOENCODER.digest(vae)
    import_weights("audioldm_vae", vae, tmp_path / "imported")
    assert AUTOENCODER.digest(tmp_path / "imported") == digest
    opened = Dataset(data_with_latents, ClipSpec(**config.clip))
    opened.check_latents(digest)
    with pytest.raises(UserError, match=r"it holds latents of another autoencoder"):
        opened.check_latents("0" * len(digest))


def test_a_folder_that_is_not_there_spoils_no_workdir(
    data_with_latents: Path, vae: Path, tmp_path: Path
):
    config = learned(data_with_latents, vae, train__steps=1, train__batch_size=4, **NO_JOINT)
    for field in ("vocoder.path", "train.init_from"):
        wrong = config.copy_and_resolve_references()
        wrong.vocoder.kind = "hifigan" if field == "vocoder.path" else "griffin_lim"
        wrong.update_from_flattened_dict({field: str(tmp_path / "nowhere")})
        with pytest.raises(UserError, match="nowhere"):
            tiny.train(wrong, tmp_path / "run")
    assert tiny.train(config, tmp_path / "run")


def test_training_starts_from_imported_weights(demo_data: Path, tmp_path: Path):
    config = tiny.config(demo_data, train__steps=1, train__learning_rate=0.0)
    experiment = Experiment.from_config(config)
    rng = np.random.default_rng(0)
    imported = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 10,
        abstract_weights(experiment.model),
    )
    weights.save(tmp_path / "imported", "vssflow", dataclasses.asdict(experiment.model), imported)
    config.train.init_from = str(tmp_path / "imported")
    assert tiny.train(config, tmp_path / "run")
    with Checkpoints(tmp_path / "run") as checkpoints:
        state, _ = checkpoints.restore(experiment.abstract_state)
    expected = imported["output"]["w_io"]
    np.testing.assert_array_equal(state.params["output"]["w_io"], expected)
    np.testing.assert_allclose(state.ema["output"]["w_io"], expected, rtol=1e-6)  # a mean of equals
    np.testing.assert_array_equal(
        state.frozen["transformer"]["time"]["frequencies"],
        imported["transformer"]["time"]["frequencies"],
    )


def save_zeros(folder: Path, cfg: ModelConfig) -> None:
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), abstract_weights(cfg))
    weights.save(folder, "vssflow", dataclasses.asdict(cfg), zeros)


def test_weights_of_another_model_to_start_from(demo_data: Path, tmp_path: Path):
    config = tiny.config(demo_data, train__steps=1)
    cfg = Experiment.from_config(config).model
    # As wide as the config's, but with other heads: no shape tells.
    heads = dataclasses.replace(cfg.transformer, heads=4, head_dim=16, kv_heads=4)
    save_zeros(tmp_path / "other", dataclasses.replace(cfg, transformer=heads))
    config.train.init_from = str(tmp_path / "other")
    with pytest.raises(UserError, match=r"model\.transformer\.heads = 4, the config says 2"):
        tiny.train(config, tmp_path / "run")
    # Nothing has been claimed: the right weights may follow in the same workdir.
    save_zeros(tmp_path / "own", cfg)
    config.train.init_from = str(tmp_path / "own")
    assert tiny.train(config, tmp_path / "run")


def test_imported_weights_are_evaluated(demo_data: Path, tmp_path: Path):
    config = tiny.config(demo_data)
    save_zeros(tmp_path / "imported", Experiment.from_config(config).model)
    config.train.init_from = str(tmp_path / "imported")
    chosen = Benchmark("x", metrics=("mel_distance_db_v2s",), versions=("shuffled",))
    metrics = evaluate(config, chosen, tmp_path / "out", run=None)
    found = metrics["metrics"]["mel_distance_db_v2s"]
    # Zero weights leave the noise as it is, whatever the conditions are.
    assert found["generated"]["value"] == found["shuffled"]["value"] > 10
    assert (tmp_path / "out" / "report.html").exists()
