"""LAION-CLAP in small against transformers, from both kinds of files."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from transformers import ClapConfig as TheirConfig
from transformers import ClapModel

from tests import tiny
from tests.networks.files import import_command
from tests.parity.golden import FORWARD, compare
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.networks import published
from vssflow_jax.networks.clap import convert
from vssflow_jax.networks.clap.network import Clap, ClapConfig
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.mapping import LEFT_OVER

SOUND: dict[str, Any] = {
    "window_size": 4,
    "num_mel_bins": 16,
    "spec_size": 64,
    "patch_embeds_hidden_size": 16,
    "hidden_size": 64,
    "depths": [2, 3, 2],
    "num_attention_heads": [2, 4, 4],
}
FRAMES = 201  # of the 256 that the square of the small network holds
TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 400,
    "max_position_embeddings": 90,
}
# With the sizes that LAION's files do not say.
LAIONS_SOUND = SOUND | {"window_size": 8, "num_mel_bins": 64, "spec_size": 256}
LAIONS_TEXT = TEXT | {"layer_norm_eps": 1e-5}
PADDING = 1

hear: Any = nnx.jit(Clap.sound, static_argnames="dtype")
_read: Any = nnx.jit(Clap.text, static_argnames="dtype")


def read(network: Any, tokens: np.ndarray, lengths: np.ndarray, **how: Any) -> jax.Array:
    return _read(network, tokens, lengths=lengths, **how)


def peer(sound: dict[str, Any] = SOUND, text: dict[str, Any] = TEXT) -> ClapModel:
    """A small network with random weights and statistics."""
    model = ClapModel(TheirConfig(audio_config=sound, text_config=text)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            is_map = tensor.ndim > 1 and "table" not in name and "embeddings" not in name
            noise *= (2 / tensor[0].numel()) ** 0.5 if is_map else 0.3
            is_norm = "norm" in name.lower() and name.endswith("weight")
            tensor.copy_(noise.abs() + 0.5 if name.endswith("var") else noise + is_norm)
    return model


def log_mels(number: int = 3, bands: int = 16) -> np.ndarray:
    """Of sounds that become something else within a few frames, in decibels."""
    steps = np.random.default_rng(0).normal(size=(number, FRAMES, bands))
    return (4 * np.cumsum(steps, axis=1) - 30).astype(np.float32)


def texts() -> tuple[np.ndarray, np.ndarray]:
    """Tokens of three texts, padded, and their lengths."""
    lengths = np.array([20, 7, 13], np.int32)
    tokens = np.random.default_rng(0).integers(3, TEXT["vocab_size"], (3, 20)).astype(np.int32)
    return np.where(np.arange(20) < lengths[:, None], tokens, PADDING), lengths


def assert_same(folder: Path, model: ClapModel) -> None:
    """Our network with imported weights says what theirs does."""
    network: Any = published.load("clap", folder)
    mels, (tokens, lengths) = log_mels(bands=network.sound_side.norm_bands.gain_d.size), texts()
    with torch.no_grad():
        heard = model.get_audio_features(torch.from_numpy(mels)[:, None])
        understood = model.get_text_features(
            torch.from_numpy(tokens).long(), torch.from_numpy(tokens != PADDING).long()
        )
    for name, found, wanted in (
        ("sound", hear(network, mels), heard.pooler_output.numpy()),
        ("text", read(network, tokens, lengths), understood.pooler_output.numpy()),
    ):
        row = compare(name, found, wanted, FORWARD)
        assert row.ok, row
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
        assert np.max(np.abs(wanted[0] - wanted[1])) > 0.01  # or everything would sound alike


# ------------------------------------------------------------------------------------------- files
def laions_tensors(model: ClapModel) -> dict[str, torch.Tensor]:
    """The weights as LAION's files have them, and some of what these hold besides."""
    renamed = (
        ("audio_model.audio_encoder.batch_norm.", "audio_branch.bn0."),
        ("audio_model.audio_encoder.", "audio_branch."),
        ("text_model.", "text_branch."),
        ("projection.linear1.", "projection.0."),
        ("projection.linear2.", "projection.2."),
    )
    of_blocks = (
        ("layernorm_before.", "norm1."),
        ("layernorm_after.", "norm2."),
        ("attention.self.relative_", "attn.relative_"),
        ("attention.output.dense.", "attn.proj."),
        ("intermediate.dense.", "mlp.fc1."),
        ("output.dense.", "mlp.fc2."),
    )
    tensors = dict(model.state_dict())
    for name in [name for name in tensors if ".blocks." in name and ".self.query." in name]:
        parts = (tensors.pop(name.replace("query", part)) for part in ("query", "key", "value"))
        tensors[name.replace("attention.self.query", "attn.qkv")] = torch.cat([*parts])

    def theirs(name: str) -> str:
        for old, new in (*renamed, *(of_blocks if ".blocks." in name else ())):
            name = name.replace(old, new)
        return name

    return {theirs(name): tensor for name, tensor in tensors.items()} | {
        "audio_branch.layers.0.blocks.1.attn_mask": torch.zeros(64, 64, 64),
        "audio_branch.spectrogram_extractor.stft.conv_real.weight": torch.ones(513, 1, 1024),
        "audio_branch.logmel_extractor.melW": torch.ones(513, 64),
        "audio_branch.tscam_conv.weight": torch.ones(527, 8, 2, 3),
        "audio_branch.head.bias": torch.ones(527),
        "audio_transform.sequential.0.weight": torch.ones(8, 8),
        "text_transform.sequential.3.bias": torch.ones(8),
    }


def write_laions(model: ClapModel, folder: Path) -> Path:
    """As LAION's trainer does, of a network on several devices."""
    path = folder / "clap.pt"
    tensors = {f"module.{name}": tensor for name, tensor in laions_tensors(model).items()}
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4}]}
    parts = {"epoch": 15, "name": "music", "state_dict": tensors, "optimizer": optimizer}
    torch.save(parts, path)
    return path


@pytest.fixture(scope="module")
def theirs() -> ClapModel:
    return peer()


@pytest.fixture(scope="module")
def folder(theirs: ClapModel, tmp_path_factory: Any) -> Path:
    """Of Hugging Face, without a tokenizer."""
    made = tmp_path_factory.mktemp("clap")
    theirs.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def ours(folder: Path) -> Any:
    return published.load("clap", folder)


def test_computes_what_transformers_does(theirs: ClapModel, folder: Path, tmp_path: Path) -> None:
    report = import_weights("clap", folder, tmp_path / "imported")
    assert_same(tmp_path / "imported", theirs)
    left = report.names(LEFT_OVER)
    assert {"logit_scale_a", "logit_scale_t"} <= set(left)
    rest = ("relative_position_index", "ids", "scale_a", "scale_t", "tracked")
    assert all(name.endswith(rest) for name in left)


def test_laions_file_is_read_too(tmp_path: Path) -> None:
    model = peer(LAIONS_SOUND, LAIONS_TEXT)
    report = import_weights("clap", write_laions(model, tmp_path), tmp_path / "imported")
    assert_same(tmp_path / "imported", model)
    left = report.names(LEFT_OVER)
    assert {"audio_branch.logmel_extractor.melW", "audio_branch.head.bias"} <= set(left)


def test_the_defaults_are_the_published_sizes() -> None:
    base = {
        "hidden_size": 1024,
        "patch_embeds_hidden_size": 128,
        "depths": [2, 2, 12, 2],
        "num_attention_heads": [4, 8, 16, 32],
    }
    with torch.device("meta"):
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in ClapModel(TheirConfig(audio_config=base)).state_dict().items()
        }
    tensors = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    assert convert.config(tensors, {}) == dataclasses.replace(ClapConfig(), text_epsilon=1e-12)


def test_the_command_says_the_licence_and_which_sizes_are_others(
    folder: Path, tmp_path: Path
) -> None:
    done = tiny.run(import_command("clap", folder, tmp_path / "imported"))
    assert done.returncode == 0, done.stderr
    assert "licence of the published weights: CC0 1.0" in done.stdout
    (line,) = [line for line in done.stderr.strip().splitlines() if "sizes" in line]
    assert "not the published sizes: width is 16, not 128, depths is (2, 3, 2), not" in line


@pytest.mark.parametrize("kind", ["transformers", "laion"])
@pytest.mark.parametrize(
    "change", [lambda x: np.concatenate([x, x]), lambda x: x[..., None], lambda x: None]
)
def test_each_tensor_that_is_wrong_or_missing_is_one_line(
    kind: str, change: Callable[[np.ndarray], np.ndarray | None], theirs: ClapModel
) -> None:
    tensors = theirs.state_dict() if kind == "transformers" else laions_tensors(theirs)
    held = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    options = theirs.config.to_dict()
    network, cfg = published.NETWORKS["clap"], convert.config(held, options)
    _, report = network.convert(held, cfg)
    for name in held.keys() - set(report.names(LEFT_OVER)):
        if name.endswith(("word_embeddings.weight", "position_embeddings.weight")):
            continue  # of any length
        changed = {**held, name: change(held[name])}
        there = {other: x for other, x in changed.items() if x is not None}
        with pytest.raises(UserError) as error:
            network.convert(there, convert.config(there, options))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("section", "options", "says"),
    [
        ("audio_config", {"hidden_act": "relu"}, "hidden_act of audio_config is 'relu'; only 'ge"),
        ("audio_config", {"layer_norm_eps": 1e-6}, "layer_norm_eps of audio_config is 1e-06"),
        ("audio_config", {"enable_fusion": True}, "enable_fusion of audio_config is True; only"),
        ("text_config", {"projection_hidden_act": "gelu"}, "text_config is 'gelu'; only 'relu'"),
        ("audio_config", {"spec_size": 72}, "spec_size is 72, no multiple of 16 for the bands"),
        ("audio_config", {"spec_size": 80}, "spec_size is 80, no multiple of 64 for a window of"),
        ("text_config", {"num_attention_heads": 3}, "the text is 128, no multiple of 3 for its h"),
        ("text_config", {"num_attention_heads": "2"}, "text is 128, no multiple of '2' for its"),
    ],
)
def test_what_is_not_computed_here_is_refused(
    section: str, options: dict[str, Any], says: str, folder: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(folder, tmp_path / "source")
    values = json.loads((source / "config.json").read_text())
    values[section] |= options
    (source / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=says):
        import_weights("clap", source, tmp_path / "imported")


def test_clap_with_fusion_and_other_networks_are_refused(tmp_path: Path) -> None:
    fusing = peer(SOUND | {"enable_fusion": True, "fusion_type": "aff_2d"})
    tensors = {name: np.asarray(tensor) for name, tensor in fusing.state_dict().items()}
    with pytest.raises(UserError, match="the source is CLAP with fusion; get a file of LAION-CLAP"):
        convert.config(tensors, {})
    torch.save({"layer.weight": torch.ones(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"no tensor .*; it is no file of LAION-CLAP"):
        import_weights("clap", tmp_path / "other.pt", tmp_path / "imported")


# ------------------------------------------------------------------------------------- the network
def test_a_text_knows_nothing_of_its_padding(ours: Any) -> None:
    tokens, lengths = texts()
    row = compare(
        "text",
        read(ours, np.where(tokens == PADDING, 7, tokens), lengths),
        read(ours, tokens, lengths),
        FORWARD,
    )
    assert row.ok, row
    short = read(ours, tokens[:, :7], np.full(3, 7, np.int32))
    np.testing.assert_array_equal(_read(ours, tokens[:, :7]), short)
    np.testing.assert_allclose(short[1], read(ours, tokens, lengths)[1], atol=1e-6)


def test_sounds_do_not_know_one_another(ours: Any) -> None:
    mels = log_mels()
    others = np.concatenate([mels[:1], mels[:1], mels[2:]])
    np.testing.assert_allclose(hear(ours, mels)[::2], hear(ours, others)[::2], atol=1e-6)


def test_bfloat16_changes_little(ours: Any) -> None:
    mels, (tokens, lengths) = log_mels(), texts()
    for plain, rounded in (
        (hear(ours, mels), hear(ours, mels, dtype="bfloat16")),
        (read(ours, tokens, lengths), read(ours, tokens, lengths, dtype="bfloat16")),
    ):
        assert plain.dtype == rounded.dtype == jnp.float32
        assert 0 < np.max(np.abs(rounded - plain)) < 0.02


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform: str, ours: Any) -> None:
    definition, state = nnx.split(ours)

    def both(state: Any, mels: jax.Array, tokens: jax.Array, lengths: jax.Array) -> Any:
        network = nnx.merge(definition, state)
        return network.sound(mels, "bfloat16"), network.text(tokens, "bfloat16", lengths)

    exported = jax.export.export(jax.jit(both), platforms=[platform])(state, log_mels(), *texts())
    assert [x.shape for x in exported.out_avals] == [(3, 512)] * 2
