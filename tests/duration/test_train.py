"""The duration predictor's training, what it predicts, and how a dataset takes it up."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import duration
from tests import tiny
from vssflow_jax.clip import ClipSpec
from vssflow_jax.duration import predict, train
from vssflow_jax.duration.train import DurationExperiment
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.example import Clip
from vssflow_jax.parallel import sharding
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.workdir import read_metrics
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder as weights

SPEC = ClipSpec(duration_sec=3.0)
STEPS = 12


def tiny_config(data: Path, **changes: Any) -> ml_collections.ConfigDict:
    config = duration.get_config()
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "ffw_width": 32}
    config.model.update(sizes)
    config.train.update({"batch_size": 8, "warmup_steps": 2, "log_every": 1})
    config.data.update({"path": str(data), "num_train": tiny.NUM_TRAIN, "num_test": tiny.NUM_TEST})
    config.train.update({"steps": STEPS, **changes})
    return config


@pytest.fixture(scope="module")
def run(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a finished run."""
    workdir = tmp_path_factory.mktemp("duration")
    assert train.train(tiny_config(demo_data), workdir)
    return workdir


def speech_clip(data: Path) -> Clip:
    return Dataset(data, SPEC).clips("train", "visualtts")[0]


def test_the_loss_is_the_surprise_at_the_true_phoneme() -> None:
    batch = {
        "lips": jnp.zeros((2, 4, 3)),
        "num_frames": jnp.array([4, 2]),
        "targets": jnp.array([[0, 1, 2, 2], [1, 1, 0, 0]]),
    }
    certain = jax.nn.one_hot(batch["targets"], 3)
    assert train.alignment_loss(certain, batch) == pytest.approx(0, abs=1e-6)
    even = jnp.full((2, 4, 3), 1 / 3)
    assert train.alignment_loss(even, batch) == pytest.approx(np.log(3), rel=1e-5)
    # What padding looks at does not count.
    elsewhere = certain.at[1, 2:].set(jnp.array([0.0, 0.0, 1.0]))
    assert train.alignment_loss(elsewhere, batch) == pytest.approx(0, abs=1e-6)


def test_an_example_says_which_phoneme_each_frame_shows(demo_data: Path) -> None:
    clip = speech_clip(demo_data)
    example = train.example(clip, DurationExperiment.from_config(tiny_config(demo_data)))
    phonemes = len(clip.phoneme_ids)
    np.testing.assert_array_equal(example["phonemes"][:phonemes], clip.phoneme_ids)
    assert not example["phonemes"][phonemes:].any()
    np.testing.assert_array_equal(np.bincount(example["targets"]), clip.phoneme_frames)
    assert example["lips"].shape == (SPEC.latent_frames, duration.SIZES["demo"].lip_features)


def test_more_phonemes_than_frames_are_refused(demo_data: Path) -> None:
    clip = dataclasses.replace(speech_clip(demo_data), phoneme_ids=np.ones(76, np.int32))
    experiment = DurationExperiment.from_config(tiny_config(demo_data))
    with pytest.raises(UserError, match=r"train-speech-\d+: 76 phonemes, .* 75 latent frames"):
        train.example(clip, experiment)


def test_a_clip_without_alignment_cannot_be_trained_on(demo_data: Path) -> None:
    clip = speech_clip(demo_data)
    assert train.aligned(clip, SPEC) is clip
    without = dataclasses.replace(clip, phoneme_frames=np.zeros(0, np.int32))
    with pytest.raises(UserError, match=r"phoneme_frames are of 0 .*; train on a dataset with"):
        train.aligned(without, SPEC)
    short = dataclasses.replace(clip, phoneme_frames=clip.phoneme_frames - 1)
    with pytest.raises(UserError, match=rf"it has {len(clip.phoneme_ids)} and 75; "):
        train.aligned(short, SPEC)


def test_the_boundary_error_counts_frames(demo_data: Path) -> None:
    clip = speech_clip(demo_data)
    first, second, *rest = clip.phoneme_frames.tolist()
    moved = {clip.clip_id: [first - 2, second + 2, *rest]}
    boundaries = len(clip.phoneme_ids) - 1
    assert predict.boundary_error(moved, [clip]) == pytest.approx(2 / boundaries)
    assert sum(predict.uniform([clip])[clip.clip_id]) == SPEC.latent_frames


def test_training_lowers_the_loss(run: Path) -> None:
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


@pytest.mark.parametrize(("warmup_steps", "rates"), [(0, [1, 1, 1]), (2, [0, 0.5, 1])])
def test_the_learning_rate_rises_to_its_peak(warmup_steps: int, rates: list[float]) -> None:
    config = tiny_config(
        Path("unused"), warmup_steps=warmup_steps, learning_rate=1.0, weight_decay=0.0
    )
    optimizer = DurationExperiment.from_config(config).optimizer
    weight, slope = jnp.zeros(()), jnp.ones(())
    state = optimizer.init(weight)
    for rate in rates:
        update, state = optimizer.update(slope, state, weight)
        assert update == pytest.approx(
            -rate, rel=1e-4
        )  # Adam's step for a slope that stays the same


def test_a_run_goes_on_where_it_stopped(run: Path, demo_data: Path, tmp_path: Path) -> None:
    assert train.train(tiny_config(demo_data, steps=STEPS // 2), tmp_path)
    assert train.train(tiny_config(demo_data), tmp_path)
    whole, stopped = read_metrics(run), read_metrics(tmp_path)
    assert [row["loss"] for row in stopped] == pytest.approx([row["loss"] for row in whole])


def test_imported_weights_can_be_used_without_training(demo_data: Path, tmp_path: Path) -> None:
    folder, workdir = tmp_path / "weights", tmp_path / "run"
    config = tiny_config(demo_data, steps=0, init_from=str(folder))
    experiment = DurationExperiment.from_config(config)
    imported = jax.tree.map(lambda x: np.full(x.shape, 0.1, x.dtype), experiment.init().params)
    weights.save(folder, "duration", config.model.to_dict(), imported)
    assert train.train(config, workdir)
    mesh_rules = sharding.make_mesh_rules(config.sharding)
    with Checkpoints(workdir) as checkpoints:
        state: Any = checkpoints.restore(experiment.abstract_state(mesh_rules))[0]
    jax.tree.map(np.testing.assert_array_equal, state.params, imported)


def test_predictions_take_the_place_of_the_uniform_stretch(
    run: Path, demo_data: Path, tmp_path: Path
) -> None:
    predicted = predict.predict(tiny_config(demo_data), run)
    file = tmp_path / "durations.json"
    file.write_text(json.dumps(predicted))
    opened = Dataset(demo_data, SPEC, "predicted", str(file))
    seen = set()
    for clip in predict.speech_clips(opened, ("train", "test")):
        seen.add(clip.clip_id)
        expected = np.repeat(clip.phoneme_ids, predicted[clip.clip_id])
        np.testing.assert_array_equal(clip.features.phonemes, expected)
        assert len(expected) == SPEC.latent_frames
    assert seen == predicted.keys()
    assert {clip_id.split("-")[0] for clip_id in seen} == {"train", "test"}


def test_predictions_do_not_depend_on_the_batch(run: Path, demo_data: Path) -> None:
    config = tiny_config(demo_data)
    # Among all clips, the test clips come in other batches than by themselves.
    of_all, of_test = (
        predict.predict(config, run, parts) for parts in (("train", "test"), ("test",))
    )
    assert of_test == {clip_id: of_all[clip_id] for clip_id in of_test}


def test_predictions_are_by_the_run_alone(run: Path, demo_data: Path) -> None:
    config = tiny_config(demo_data)
    config.seed = 9
    with pytest.raises(UserError, match=r"--config.seed=9: the run in .* was trained with 0"):
        predict.predict(config, run, overrides=["seed"])


def test_the_comparison_is_printed(
    run: Path, demo_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict.evaluate_and_print(tiny_config(demo_data), run)
    printed = capsys.readouterr().out
    assert "predicted" in printed
    assert "uniform" in printed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.log_every", 0, "it must be at least 1"),
        ("train.learning_rate", -1e-3, "it must be at least 0"),
        ("train.learning_rate", float("nan"), "it must be at least 0"),
        ("train.warmup_steps", -1, "it must be at least 0"),
        ("train.steps", -1, "it must be at least 0"),
        ("model.encoder_layers", 0, "it must be at least 1"),
        ("model.decoder_layers", 0, "it must be at least 1"),
        ("data.source", "web", "choose one of: demo, none"),
    ],
)
def test_bad_values_are_named(name: str, value: Any, message: str, tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "data")
    config.update_from_flattened_dict({name: value})
    with pytest.raises(UserError, match=rf"{name} is '?{value}'?; {message}"):
        train.train(config, tmp_path)


def test_an_unknown_size_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"duration\.py:big: choose one of: demo, published"):
        duration.get_config("big")


def test_predicting_takes_a_trained_run(demo_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run in"):
        predict.predict(tiny_config(demo_data), tmp_path)
