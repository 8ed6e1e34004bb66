"""The command that imports weights: sources that have no live peer, and bad input."""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from flax import nnx

from configs import duration as duration_config
from tests import tiny
from tests.helpers import randomised
from vssflow_jax.duration import convert
from vssflow_jax.duration.model import DurationConfig, DurationPredictor
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.models.convert_vssflow import abstract_weights, to_reference
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder
from vssflow_jax.weights.mapping import Weights, flatten
from vssflow_jax.weights.state_dict import PLAIN, read_state_dict, write_state_dict

CONFIG = tiny.config(Path("unused"))
CFG = ModelConfig.from_config(CONFIG.model)
PEER = 1e-4


@pytest.fixture(scope="module")
def random_weights() -> Weights:
    """All weights of the tiny network."""
    return nnx.to_pure_dict(nnx.state(randomised(lambda: VSSFlow(CFG, rngs=nnx.Rngs(0)))))


@pytest.fixture
def source(random_weights: Weights, tmp_path: Path) -> Path:
    """A state dict as the reference would have it."""
    path = tmp_path / "reference.safetensors"
    write_state_dict(path, to_reference(random_weights, {}, CFG))
    return path


def command(source: Path, out: Path, **overrides: Any) -> list[str]:
    """The command line for the tiny network; `overrides` name fields."""
    model = {name: value for name, value in tiny.OVERRIDES.items() if name.startswith("model.")}
    return [
        sys.executable,
        "-m",
        "vssflow_jax.interop.import_weights",
        "--kind=vssflow",
        f"--source={source}",
        f"--out={out}",
        f"--config={tiny.ROOT / 'configs' / 'demo.py'}",
        *(f"--config.{name}={value}" for name, value in (model | overrides).items()),
    ]


def test_imports_a_state_dict_of_the_reference(
    source: Path, random_weights: Weights, tmp_path: Path
) -> None:
    out = tmp_path / "imported"
    done = tiny.run(command(source, out))
    assert done.returncode == 0, done.stderr
    assert "folded" in done.stdout
    assert "vaflow.transformer_blocks.*.attn2.to_k.weight" in done.stdout
    assert len(done.stdout.splitlines()) < 60
    loaded = folder.load(out, "vssflow", abstract_weights(CFG))
    jax.tree.map(np.testing.assert_array_equal, loaded, random_weights)
    assert folder.read_config(out, "vssflow")["placement"] == CFG.placement


def test_a_partial_source_is_refused_with_the_table(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "imported"
    done = tiny.run(command(source, out, **{"model.transformer.layers": 3}))
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: tensors of the source: 18 missing (vaflow.transformer_blocks.2.")
    assert "missing  vaflow.transformer_blocks.2.norm1.bias" in done.stdout
    assert not out.exists()


def test_imports_a_lightning_checkpoint(random_weights: Weights, tmp_path: Path) -> None:
    tensors = {name: torch.tensor(v) for name, v in to_reference(random_weights, {}, CFG).items()}
    tensors["vae.decoder.conv_in.bias"] = torch.zeros(3)
    torch.save({"state_dict": tensors, "global_step": 7}, tmp_path / "last.ckpt")
    report = import_weights("vssflow", tmp_path / "last.ckpt", tmp_path / "imported", CONFIG)
    assert report.names("left over") == ["vae.decoder.conv_in.bias"]
    loaded = folder.load(tmp_path / "imported", "vssflow", abstract_weights(CFG))
    jax.tree.map(np.testing.assert_array_equal, loaded, random_weights)


def duration_source(cfg: DurationConfig) -> dict[str, np.ndarray]:
    """Random tensors under the reference's names."""
    rng = np.random.default_rng(0)
    model = nnx.eval_shape(lambda: DurationPredictor(cfg, rngs=nnx.Rngs(0)))
    ours = flatten(nnx.to_pure_dict(nnx.state(model)))
    tensors = {"attn_decoder.positial_embedding": np.zeros((1, 9, 2))}
    for rule in convert.rules(cfg):
        shape = ours[rule.target].shape[int(".layers." in rule.target) :]
        shape = shape[::-1] if rule.target.endswith("w_io") else shape
        for name in rule.sources:
            # Queries, keys and values are one tensor there.
            rows = 3 * shape[0] if "in_proj" in name else shape[0]
            tensors[name] = rng.normal(size=(rows, *shape[1:])).astype(np.float32)
    return tensors


def test_imports_a_duration_predictor(tmp_path: Path) -> None:
    config = duration_config.get_config()
    source, out = tmp_path / "duration.pt", tmp_path / "imported"
    tensors = duration_source(DurationConfig.from_config(config.model))
    torch.save({name: torch.tensor(value) for name, value in tensors.items()}, source)
    report = import_weights("duration", source, out, config)
    assert report.names("left over") == ["attn_decoder.positial_embedding"]
    loaded = read_state_dict(out / folder.WEIGHTS_FILE)
    np.testing.assert_array_equal(
        loaded["phoneme_encoder.into.w_io"], tensors["phone_encoder.inputq_proj.weight"].T
    )
    assert DurationConfig(**folder.read_config(out, "duration")) == DurationConfig(**config.model)


def test_numbers_that_are_not_finite_matter_where_they_are_used(
    source: Path, tmp_path: Path
) -> None:
    tensors = read_state_dict(source) | {"image_encoder.attn_mask": np.full((2, 2), -np.inf)}
    used = "phone_embedding.weight"
    averaged = {f"ema.{used}": tensors[used], used: np.full_like(tensors[used], np.nan)}
    write_state_dict(source, tensors | averaged)
    report = import_weights("vssflow", source, tmp_path / "imported", CONFIG)
    assert report.names("left over") == ["image_encoder.attn_mask", f"{PLAIN}{used}"]
    write_state_dict(source, tensors | {used: averaged[used]})
    with pytest.raises(UserError, match=f"'{used}' holds .* not finite"):
        import_weights("vssflow", source, tmp_path / "broken", CONFIG)


def test_an_autoencoder_of_another_latent_width_is_refused(tmp_path: Path) -> None:
    AutoencoderKL(in_channels=1, out_channels=1, latent_channels=4).save_pretrained(
        tmp_path / "vae"
    )
    with pytest.raises(UserError, match=r"latent_channels is 4 .* 256 channels; .* 128"):
        import_weights("audioldm_vae", tmp_path / "vae", tmp_path / "imported")
    assert not (tmp_path / "imported").exists()


def test_wrong_arguments_are_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "imported"
    with pytest.raises(UserError, match="--kind is 'vits'; choose one of: vssflow, "):
        import_weights("vits", source, out, CONFIG)
    with pytest.raises(UserError, match=r"need a config like --config=configs/vssflow\.py"):
        import_weights("vssflow", source, out)
    with pytest.raises(UserError, match=r"need a config like --config=configs/vssflow\.py"):
        import_weights("vssflow", source, out, duration_config.get_config())
    with pytest.raises(UserError, match="leave out --config"):
        import_weights("hifigan", source, out, CONFIG)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        import_weights("hifigan", source, out)
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="imported is there already"):
        import_weights("vssflow", source, out, CONFIG)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
