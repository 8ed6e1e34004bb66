"""Stable Audio's transformer as a start: what is taken from one of diffusers, and what is not."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableAudioDiTModel

from tests.helpers import tiny_model_config
from vssflow_jax.interop import stable_audio
from vssflow_jax.models import convert_vssflow
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import mapping
from vssflow_jax.weights.state_dict import read_config_beside, read_state_dict

BLOCKS = 4
CONTEXT = 12  # of placement lip_synch_text
SEED = 3
FRAMES = 6
PEER = 1e-4
MARK = np.float32(7)
CROSS_KEYS = "transformer.blocks.cross_attention.k_egk"
CROSS_VALUES = "transformer.blocks.cross_attention.v_egk"


@pytest.fixture(scope="module")
def theirs() -> StableAudioDiTModel:
    sizes = {"num_layers": BLOCKS, "num_attention_heads": 4, "num_key_value_attention_heads": 2}
    sizes |= {"attention_head_dim": 8, "cross_attention_dim": CONTEXT, "time_proj_dim": 16}
    sizes |= {"in_channels": 6, "out_channels": 6, "cross_attention_input_dim": 10}
    model = StableAudioDiTModel(**sizes, global_states_input_dim=20).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # also those that start as 0 or 1
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def folder(theirs: StableAudioDiTModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stable-audio")
    theirs.save_pretrained(path)
    return path


def config(placement: str = "lip_synch_text", **sizes: int) -> ModelConfig:
    cfg = tiny_model_config(placement, "float32")
    return dataclasses.replace(cfg, transformer=dataclasses.replace(cfg.transformer, **sizes))


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """`MARK` wherever a weight is initialised, which takes long."""

    def mark(cfg: ModelConfig, seed: int, names: Sequence[str], init: str) -> dict[str, np.ndarray]:
        shapes = mapping.flatten(convert_vssflow.abstract_weights(cfg))
        return {name: np.full(shapes[name].shape, MARK) for name in names}

    monkeypatch.setattr(stable_audio, "initial_weights", mark)


def convert(folder: Path, cfg: ModelConfig) -> mapping.Conversion:
    return stable_audio.from_stable_audio(
        read_state_dict(folder), read_config_beside(folder), cfg, SEED
    )


def is_marked(weights: mapping.Weights) -> list[str]:
    """Names of the weights that were initialised."""
    return [name for name, value in mapping.flatten(weights).items() if (value == MARK).all()]


@pytest.mark.usefixtures("marked")
def test_the_rest_is_initialised(folder: Path) -> None:
    weights, report = convert(folder, config(layers=2))
    assert is_marked(weights) == report.names("reinitialised")
    parts = {name.partition(".")[0] for name in mapping.flatten(weights)}
    assert {name.partition(".")[0] for name in is_marked(weights)} == parts - {"transformer"}
    assert "proj_in.weight" in report.names("left over")
    assert "transformer_blocks.2.norm1.bias" in report.names("left over")
    assert len(report.table().splitlines()) < 60


def test_initialises_as_training_from_nothing_does() -> None:
    cfg = config()
    names = ["output.w_io", CROSS_KEYS]
    drawn, again, other = (
        stable_audio.initial_weights(cfg, seed, names) for seed in (SEED, SEED, SEED + 1)
    )
    assert list(drawn) == sorted(names)
    assert not drawn["output.w_io"].any()
    assert drawn[CROSS_KEYS].std() == pytest.approx(CONTEXT**-0.5, rel=0.1)
    np.testing.assert_array_equal(drawn[CROSS_KEYS], again[CROSS_KEYS])
    assert (drawn[CROSS_KEYS] != other[CROSS_KEYS]).any()


def test_initialises_as_the_reference_does() -> None:
    cfg = config()
    names = ["output.w_io", "input.w_io", CROSS_KEYS]
    own = stable_audio.initial_weights(cfg, SEED, names)
    drawn = stable_audio.initial_weights(cfg, SEED, names, "reference")
    # Blocks are not drawn otherwise.
    np.testing.assert_array_equal(drawn[CROSS_KEYS], own[CROSS_KEYS])
    for name, inputs in (
        ("input.w_io", convert_vssflow.input_channels(cfg)),
        ("output.w_io", cfg.transformer.width),
    ):
        # Uniform numbers within b have a variance of b^2 / 3; the convolution adds a third.
        expected = np.sqrt(4 / 9 / inputs)
        assert drawn[name].std() == pytest.approx(expected, rel=0.1)
        assert drawn[name].shape == own[name].shape


@pytest.mark.usefixtures("marked")
@pytest.mark.parametrize("placement", ["none", "video_text", "lip_synch"])
def test_a_context_of_another_width_has_new_keys_and_values(folder: Path, placement: str) -> None:
    cfg = config(placement)
    weights, report = convert(folder, cfg)
    anew = [name for name in is_marked(weights) if name.startswith("transformer")]
    assert anew == [CROSS_KEYS, CROSS_VALUES]
    anew = [name for name in report.names("reinitialised") if name.startswith("transformer")]
    assert anew == [
        f"transformer_blocks.{block}.attn2.to_{part}.weight"
        for part in "kv"
        for block in range(cfg.transformer.layers)
    ]


@pytest.mark.usefixtures("marked")
def test_norms_of_queries_and_keys_are_new(folder: Path) -> None:
    plain = config()
    transformer = dataclasses.replace(plain.transformer, qk_norm=True)
    weights, _ = convert(folder, dataclasses.replace(plain, transformer=transformer))
    anew = [name for name in is_marked(weights) if name.startswith("transformer")]
    assert anew == [
        f"transformer.blocks.{kind}_attention.{which}_norm.scale_k"
        for kind in ("cross", "self")
        for which in "kq"
    ]


@pytest.mark.usefixtures("marked")
def test_without_a_context_the_speaker_takes_the_place_of_the_duration(folder: Path) -> None:
    weights, report = convert(folder, config("lip_synch_video_text"))
    assert "global_proj.2.weight" in report.names("mapped")
    assert "global_proj.0.weight" in report.names("reinitialised")
    np.testing.assert_array_equal(
        weights["conditions"]["speaker_to_token"]["outer"]["w_io"],
        read_state_dict(folder)["global_proj.2.weight"].T,
    )


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"layers": BLOCKS + 1}, "num_layers is 4, fewer than model.transformer.layers, 5"),
        ({"heads": 8, "head_dim": 4}, "num_attention_heads is 4, but model.transformer.heads is 8"),
        ({"kv_heads": 4}, "num_key_value_attention_heads is 2"),
        ({"ffw_multiple": 2}, r"'transformer_blocks\.0\.ff\.net\.0\.proj\.bias' \(256,\)"),
        ({"time_features": 32}, r"'time_proj\.weight' \(8,\)"),
    ],
)
def test_other_sizes_are_refused(folder: Path, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert(folder, config(**sizes))


def test_another_model_is_refused(folder: Path) -> None:
    tensors, options = read_state_dict(folder), read_config_beside(folder)
    with pytest.raises(UserError, match="_class_name is 'UNet2DModel'"):
        stable_audio.from_stable_audio(
            tensors, options | {"_class_name": "UNet2DModel"}, config(), SEED
        )
    with pytest.raises(UserError, match="no 'num_layers'"):
        stable_audio.from_stable_audio(
            tensors, {"_class_name": "StableAudioDiTModel"}, config(), SEED
        )
    tensors.pop("transformer_blocks.1.norm1.bias")
    with pytest.raises(UserError, match=r"1 missing \(transformer_blocks\.1\.norm1\.bias\)"):
        stable_audio.from_stable_audio(tensors, options, config(), SEED)
