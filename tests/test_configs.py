"""Config files: what their arguments choose, and that each of them passes the checks."""

import sys
from pathlib import Path

import pytest

from configs import demo, vssflow
from tests import tiny
from vssflow_jax.config import check
from vssflow_jax.input_pipeline.mixture import Mixture
from vssflow_jax.models.conditions import PLACEMENTS
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.utils.errors import UserError


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("recipe", vssflow.RECIPES)
def test_every_recipe_and_placement_is_sound(placement: str, recipe: str):
    config = vssflow.get_config(f"small,placement={placement},recipe={recipe}")
    if config.train.fine_tune:
        with pytest.raises(UserError, match=r"weights to start from by --config\.train\.init_from"):
            check(config)
        config.train.init_from = "weights"
    check(config)
    Mixture.from_config(config.data.mixture)
    assert ModelConfig.from_config(config.model).placement == placement


def test_the_words_of_the_argument_go_in_any_order():
    one = vssflow.get_config("recipe=tts,large,placement=none")
    other = vssflow.get_config("large,placement=none,recipe=tts")
    assert one.to_dict() == other.to_dict()
    assert one.model.transformer.layers == 15


def test_the_learning_rate_follows_the_batch():
    config = vssflow.get_config()
    assert config.train.learning_rate == pytest.approx(1.152e-4)
    config.train.batch_size = 72
    assert config.train.learning_rate == pytest.approx(0.288e-4)


def test_recipes_are_what_they_are_called():
    configs = {name: vssflow.get_config(f"recipe={name}") for name in vssflow.RECIPES}
    assert max(configs["masked"].train.mask_ratios) == 1.0
    assert configs["tts"].data.mixture.weights.tts > 0
    for name, ratio in (("joint_native", 0.0), ("joint", 0.5), ("joint_synthetic", 1.0)):
        mixture = configs[name].data.mixture
        assert mixture.weights.to_dict() == {"v2s": 0, "visualtts": 0, "tts": 0, "joint": 1}
        assert mixture.synthetic_ratio == ratio
    fine = {name for name, config in configs.items() if config.train.fine_tune}
    joint = {"joint_native", "joint", "joint_synthetic", "joint_add"}
    assert fine == {"masked", "ttsvtts", *joint}
    steps = {name: configs[name].train.steps for name in joint - {"joint_native"}}
    assert steps == {"joint": 6000, "joint_synthetic": 10_500, "joint_add": 12_000}
    assert configs["joint_add"].data.mixture.joint_modes == ("add",)
    for name in (*joint, "ttsvtts"):
        assert configs[name].data.mixture.speech_sources == ("LRS2", "LibriTTS")
    assert configs["ttsvtts"].train.mask_ratios == (0.0, 1.0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("eval.sampler.guidance_interval", (0.2, 0.8, 0.9), "give two flow times"),
        ("eval.sampler.guidance_interval", (0.8, 0.2), "the earlier one first"),
        ("eval.sampler.guidance_interval", ("a", "b"), "give two flow times"),
        (
            "eval.sampler.guidance",
            float("nan"),
            "guidance is nan; it must be at least",
        ),
        ("train.mask_ratios", ("a",), "choose numbers from 0 to 1"),
        ("train.mask_ratios", (0.5, 2.0), "choose numbers from 0 to 1"),
        ("train.beta1", 2.0, "it must be from 0 to 1"),
        ("model.latent_channels", 64, "choose one of: 128"),
        ("model.widths.phonemes.features", 70, "it must be at least 71"),
        ("codec.kind", "mp3", "choose one of: patch_dct, audioldm_vae"),
        ("data.durations", "guessed", "choose one of: uniform, aligned, predicted"),
    ],
)
def test_a_value_that_cannot_be_is_one_clear_line(field: str, value: object, message: str):
    config = demo.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        check(config)


def test_the_demo_takes_a_placement():
    assert demo.get_config("ablation=none").model.placement == "none"
    assert demo.get_config().model.placement == "lip_synch_text"


@pytest.mark.parametrize(
    ("get_config", "argument", "message"),
    [
        (vssflow.get_config, "huge", r"no size 'huge'; choose one of: small, base, large, xl"),
        (vssflow.get_config, "base,recipe=x", r"no recipe 'x'; choose one of: pretrain, masked"),
        (vssflow.get_config, "base,large", r"two of 'size'; give one"),
        (vssflow.get_config, "depth=3", r"no 'depth'; it has size, placement, recipe, init"),
        (demo.get_config, "ablation=all", r"no ablation 'all'; choose one of: none, video_text"),
        (demo.get_config, "streams=large", r"no streams 'large'; choose one of: small, paper"),
        (demo.get_config, "size=small", r"no 'size'; it has ablation, streams"),
    ],
)
def test_an_unknown_word_is_one_clear_line(get_config, argument: str, message: str):
    with pytest.raises(UserError, match=message):
        get_config(argument)


def test_a_config_is_read_from_anywhere(tmp_path: Path) -> None:
    module = [sys.executable, "-m", "vssflow_jax.describe"]
    for name in ("demo", "vssflow"):
        done = tiny.run([*module, f"--config={tiny.ROOT}/configs/{name}.py"], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
