"""What can be done with a run by its folder alone: go on with it, evaluate it, start from it."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest

from tests import tiny
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.interop import export_weights
from vssflow_jax.models.convert_vssflow import to_reference
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment, TrainState
from vssflow_jax.run.initial import check_source, initial_state
from vssflow_jax.run.workdir import read_metrics
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.state_dict import write_state_dict

STEPS = 4
# None of which is a default of the demo's config: nobody should have to guess them.
CHANGES: dict[str, Any] = {
    "train__steps": STEPS,
    "train__decay_steps": 0,
    "train__checkpoint_every": 2,
    "model__dtype": "bfloat16",
}
QUICK = """
import ml_collections


def get_config():
    return ml_collections.ConfigDict({"metrics": ("mel_distance_db_v2s",), "max_clips": 1})
"""


@pytest.fixture(scope="module")
def config(demo_data: Path) -> ml_collections.ConfigDict:
    return tiny.config(demo_data, **CHANGES)


@pytest.fixture(scope="module")
def run(config: ml_collections.ConfigDict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    assert tiny.train(config, workdir)
    return workdir


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    """A copy to go on with."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def command(script: str, **given: object) -> list[str]:
    return [sys.executable, script, *(f"--{name}={value}" for name, value in given.items())]


def test_trained_longer_by_one_flag(own_run: Path):
    done = tiny.run(command("run_train.py", workdir=own_run) + ["--config.train.steps=6"])
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in read_metrics(own_run)] == [1, 2, 3, 4, 5, 6]
    assert "learning rate is 0 from step 4 on" in done.stdout
    assert "--config.train.decay_steps=6" in done.stdout
    kept = json.loads((own_run / "config.json").read_text())["train"]
    assert (kept["steps"], kept["decay_steps"]) == (6, STEPS)
    rates = [row["learning_rate"] for row in read_metrics(own_run)]
    assert rates[4:] == [0, 0]


def test_trained_longer_by_the_config_it_was_started_with(
    own_run: Path, config: ml_collections.ConfigDict, capsys: pytest.CaptureFixture[str]
):
    longer = config.copy_and_resolve_references()
    longer.train.steps = 6
    longer.train.decay_steps = 6
    assert tiny.train(longer, own_run)
    assert "learning rate is 0" not in capsys.readouterr().out
    assert read_metrics(own_run)[-1]["learning_rate"] > 0


def test_evaluated_by_its_folder_in_another_precision(run: Path, tmp_path: Path):
    (tmp_path / "quick.py").write_text(QUICK)
    given = {"workdir": run, "out": tmp_path / "out", "benchmark": tmp_path / "quick.py"}
    done = tiny.run(command("run_eval.py", **given) + ["--config.model.dtype=float32"])
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())["config"]
    assert found["model"]["dtype"] == "float32"
    assert found["train"]["steps"] == STEPS
    failed = tiny.run(command("run_eval.py", **given) + ["--config.train.ema_decay=0.5"])
    assert failed.returncode == 2
    assert "error: --config.train.ema_decay=0.5" in failed.stderr


def test_no_run_is_not_a_missing_dataset(tmp_path: Path):
    given = {"config": tiny.ROOT / "configs" / "demo.py", "workdir": tmp_path / "none"}
    failed = tiny.run(command("run_eval.py", **given) + [f"--config.data.path={tmp_path}/data"])
    assert failed.returncode == 2
    assert "no run in" in failed.stderr
    assert "train first" in failed.stderr


def test_a_run_that_is_not_there_cannot_be_gone_on_with(tmp_path: Path):
    failed = tiny.run(command("run_train.py", workdir=tmp_path / "none"))
    assert failed.returncode == 2
    assert "holds no run to go on with; name an experiment by --config" in failed.stderr
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------- to start from it
def state_of(run: Path, config: ml_collections.ConfigDict, step: int | None = None) -> TrainState:
    with Checkpoints(run) as checkpoints:
        return checkpoints.restore(Experiment.from_config(config).abstract_state, step)[0]


def fine_tuning(config: ml_collections.ConfigDict, **changes: Any) -> ml_collections.ConfigDict:
    result = config.copy_and_resolve_references()
    result.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return result


def started(config: ml_collections.ConfigDict) -> TrainState:
    experiment = Experiment.from_config(config)
    return initial_state(experiment)


def assert_same(found: Any, wanted: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize(
    ("source", "weights", "step"),
    [
        ("RUN", "ema", STEPS),
        ("RUN", "params", STEPS),
        ("RUN/checkpoints/2", "ema", 2),
    ],
)
def test_started_from_a_run(run: Path, config, source: str, weights: str, step: int):
    theirs = state_of(run, config, step)
    init = {"init_from": source.replace("RUN", str(run)), "init_weights": weights}
    # In another precision, by another optimizer, and with joint clips alone.
    state = started(
        fine_tuning(
            config,
            model__dtype="float32",
            train__grad_clip_norm=0.0,
            **{f"train__{name}": value for name, value in init.items()},
        )
    )
    assert_same(state.params, getattr(theirs, weights))
    assert_same(state.ema, state.params)
    assert_same(state.frozen, theirs.frozen)
    # The latents that it knows, not those of the new mixture's sounds.
    assert_same(state.codec, theirs.codec)
    assert int(state.step) == 0


def test_started_with_maps_drawn_as_the_reference_draws_them(config, demo_data: Path):
    def from_nothing(given: ml_collections.ConfigDict) -> TrainState:
        experiment = Experiment.from_config(given)
        return initial_state(experiment, Dataset(demo_data, experiment.spec).latent_stats)

    own, drawn = from_nothing(config), from_nothing(fine_tuning(config, train__init="reference"))
    assert_same(drawn.params["transformer"], own.params["transformer"])
    assert not np.asarray(own.params["output"]["w_io"]).any()
    width = Experiment.from_config(config).model.transformer.width
    deviation = float(np.std(drawn.params["output"]["w_io"]))
    assert deviation == pytest.approx(np.sqrt(4 / 9 / width), rel=0.1)
    assert_same(drawn.ema, drawn.params)


def test_started_from_a_run_without_an_average(config, demo_data: Path, tmp_path: Path):
    plain = fine_tuning(config, train__ema_decay=0.0, train__steps=1)
    assert tiny.train(plain, tmp_path / "run")
    state = started(fine_tuning(config, train__init_from=str(tmp_path / "run")))
    assert_same(state.ema, state_of(tmp_path / "run", plain).params)


def test_fine_tuned_with_joint_clips_alone(run: Path, config, tmp_path: Path):
    weights = {"v2s": 0.0, "visualtts": 0.0, "tts": 0.0, "joint": 1.0}
    given = fine_tuning(config, train__init_from=str(run), train__steps=2)
    given.data.mixture.weights.update(weights)
    assert tiny.train(given, tmp_path / "joint")
    assert_same(state_of(tmp_path / "joint", given).codec, state_of(run, config).codec)
    given.train.init_from = "moved since"
    given.train.steps = 3
    assert tiny.train(given, tmp_path / "joint")  # which goes on with its own weights


def test_started_from_a_file_of_weights(run: Path, config, demo_data: Path, tmp_path: Path):
    path = tmp_path / "exported.safetensors"
    write_state_dict(path, to_reference(*export_weights.of_run(str(run))))
    given = fine_tuning(config, train__init_from=str(path))
    experiment = Experiment.from_config(given)
    state = initial_state(experiment, Dataset(demo_data, experiment.spec).latent_stats)
    theirs = state_of(run, config)
    assert_same(state.params, theirs.ema)
    # Of the same dataset, and so the latents that the weights know.
    assert_same(state.codec, theirs.codec)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train__init_from": "nowhere"}, "nowhere, which is not there; give a run"),
        ({"model__transformer__layers": 3}, r"layers = 2, the config says 3"),
        ({"model__placement": "none"}, r"placement = lip_synch_text, the config says none"),
        ({"codec__kind": "audioldm_vae"}, "whose latents are of codec.kind 'patch_dct'"),
    ],
)
def test_what_does_not_fit_is_named(run: Path, config, changes: dict[str, Any], says: str):
    given = fine_tuning(config, **({"train__init_from": str(run)} | changes))
    with pytest.raises(UserError, match=says):
        check_source(given)


def test_a_step_that_is_not_there(run: Path, config):
    given = fine_tuning(config, train__init_from=f"{run}/checkpoints/3")
    with pytest.raises(UserError, match=r"no checkpoint of step 3 .* there are 2, 4"):
        started(given)
