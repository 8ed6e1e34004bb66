"""CLIP's picture encoder against its live peer in transformers, from both kinds of files."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel

from tests import tiny
from tests.networks.files import as_program, import_command
from tests.parity.golden import FORWARD, compare
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.networks import published
from vssflow_jax.networks.clip_vision import ClipVision, normalise
from vssflow_jax.networks.spread import Spread
from vssflow_jax.utils.errors import UserError

SIDE, PATCH, LAYERS = 32, 8, 2
SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
}
VISION: dict[str, Any] = SIZES | {"image_size": SIDE, "patch_size": PATCH}


def randomise(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)


def peer(**options: Any) -> CLIPVisionModel:
    """A small network with random weights, of which norms are no exception."""
    model = CLIPVisionModel(CLIPVisionConfig(**VISION, **options)).eval()
    randomise(model)
    return model


def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def expected(model: CLIPVisionModel) -> np.ndarray:
    """The class token after the last block."""
    pixels = torch.from_numpy(np.array(normalise(pictures()))).permute(0, 3, 1, 2)
    with torch.no_grad():
        states = model(pixels, output_hidden_states=True).hidden_states
    return states[-1][:, 0].numpy()


def assert_same(folder: Path, wanted: np.ndarray) -> None:
    network = published.load("clip", folder)
    assert isinstance(network, ClipVision)
    found = nnx.jit(ClipVision.__call__)(network, normalise(pictures()))
    row = compare("features", found, wanted, FORWARD)
    assert row.ok, row


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_computes_what_transformers_does(activation: str, tmp_path: Path) -> None:
    theirs = peer(hidden_act=activation, layer_norm_eps=1e-3)
    theirs.save_pretrained(tmp_path / "source")
    report = import_weights("clip", tmp_path / "source", tmp_path / "imported")
    assert_same(tmp_path / "imported", expected(theirs))
    assert all("post_layernorm" in name for name in report.names("left over"))


def test_the_text_side_is_ignored_and_counted(tmp_path: Path) -> None:
    whole = CLIPModel(CLIPConfig(text_config=SIZES, vision_config=VISION)).eval()
    randomise(whole)
    whole.save_pretrained(tmp_path / "source")
    report = import_weights("clip", tmp_path / "source", tmp_path / "imported")
    alone = peer()
    state_dict = whole.vision_model.state_dict()
    alone.load_state_dict({name: state_dict[name] for name in alone.state_dict()})
    assert_same(tmp_path / "imported", expected(alone))
    left = report.names("left over")
    assert {"logit_scale", "text_projection.weight", "visual_projection.weight"} <= set(left)
    assert report.size("left over") > 1_000_000  # among them the table of the text's tokens


# OpenAI's names of the parts of a block, and transformers'.
PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def openai_tensors(model: CLIPVisionModel) -> dict[str, torch.Tensor]:
    """The weights as OpenAI's file has them, with a small text side."""
    held = model.state_dict()
    tensors = {
        "conv1.weight": held["embeddings.patch_embedding.weight"],
        "class_embedding": held["embeddings.class_embedding"],
        "positional_embedding": held["embeddings.position_embedding.weight"],
        "proj": torch.ones(128, 16),
    }
    for ours, theirs in (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")):
        for leaf in ("weight", "bias"):
            tensors[f"{ours}.{leaf}"] = held[f"{theirs}.{leaf}"]
    for layer in range(LAYERS):
        for leaf in ("weight", "bias"):
            block, source = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
            for ours, theirs in PARTS.items():
                tensors[f"{block}.{ours}.{leaf}"] = held[f"{source}.{theirs}.{leaf}"]
            tensors[f"{block}.attn.in_proj_{leaf}"] = torch.cat(
                [held[f"{source}.self_attn.{x}_proj.{leaf}"] for x in "qkv"]
            )
    return {f"visual.{name}": tensor for name, tensor in tensors.items()} | {
        "positional_embedding": torch.ones(77, 16),
        "text_projection": torch.ones(16, 16),
        "logit_scale": torch.tensor(4.6),
        "transformer.resblocks.0.attn.in_proj_weight": torch.ones(48, 16),
        "token_embedding.weight": torch.ones(49, 16),
        "ln_final.weight": torch.ones(16),
        "input_resolution": torch.tensor(SIDE),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49),
    }


def openai_file(model: CLIPVisionModel, folder: Path) -> Path:
    path = folder / "ViT-B-16.pt"
    as_program(openai_tensors(model), path)
    return path


def test_openais_program_is_read_in_float16_and_not_run(tmp_path: Path) -> None:
    theirs = peer().half()
    source = openai_file(theirs, tmp_path)
    report = import_weights("clip", source, tmp_path / "imported")
    assert_same(tmp_path / "imported", expected(theirs.float()))
    assert {"visual.proj", "logit_scale", "vocab_size"} <= set(report.names("left over"))


def test_a_state_dict_of_openais_file_is_read_too(tmp_path: Path) -> None:
    theirs = peer()
    torch.save(openai_tensors(theirs), tmp_path / "clip.pt")
    import_weights("clip", tmp_path / "clip.pt", tmp_path / "imported")
    assert_same(tmp_path / "imported", expected(theirs))


OPENCLIP: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": SIDE, "layers": LAYERS, "width": 128, "patch_size": PATCH},
        "text_cfg": {"width": 16},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.6, 0.7]},
}


def openclip_folder(model: CLIPVisionModel, folder: Path, config: dict[str, Any]) -> Path:
    """A folder as OpenCLIP pushes it: OpenAI's names, without what only OpenAI's files hold."""
    tensors = {
        name: tensor.contiguous() for name, tensor in openai_tensors(model).items() if tensor.ndim
    }
    save_file(tensors, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("model", "vision", "peers"),
    [
        ({}, {}, {"hidden_act": "gelu"}),
        (
            {"quick_gelu": True},
            {"head_width": 32, "norm_kwargs": {"eps": 1e-3}},
            {"num_attention_heads": 4, "layer_norm_eps": 1e-3},
        ),
    ],
)
def test_openclips_folder_tells_what_openais_names_do_not(
    model: dict[str, Any], vision: dict[str, Any], peers: dict[str, Any], tmp_path: Path
) -> None:
    theirs = CLIPVisionModel(CLIPVisionConfig(**VISION | peers)).eval()
    randomise(theirs)
    sizes = OPENCLIP["model_cfg"]
    changed = {**sizes, **model, "vision_cfg": sizes["vision_cfg"] | vision}
    source = openclip_folder(theirs, tmp_path, OPENCLIP | {"model_cfg": changed})
    import_weights("clip", source, tmp_path / "imported")
    assert_same(tmp_path / "imported", expected(theirs))
    cfg = published.config("clip", tmp_path / "imported")
    assert (cfg.mean, cfg.std) == ((0.5, 0.4, 0.3), (0.5, 0.6, 0.7))


def test_pictures_get_the_scale_of_the_preprocessor(tmp_path: Path) -> None:
    theirs = peer()
    theirs.save_pretrained(tmp_path)
    mean, std = [0.5, 0.4, 0.3], [0.5, 0.6, 0.7]
    scale = {"image_mean": mean, "image_std": std}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(scale))
    pixels = torch.from_numpy(((pictures() / 255 - mean) / std).astype(np.float32))
    with torch.no_grad():
        states = theirs(pixels.permute(0, 3, 1, 2), output_hidden_states=True).hidden_states
    wanted = states[-1][:, 0].numpy()
    row = compare("features", Spread.load("clip", tmp_path)(pictures()), wanted, FORWARD)
    assert row.ok, row


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (None, "lack input_resolution.*put OpenCLIP's open_clip_config.json beside"),
        ({"model_cfg": {"vision_cfg": {"head_width": 80}}}, "head_width is 80, but the width 128"),
        ({"model_cfg": {"vision_cfg": [1]}}, r"vision_cfg is \[1\], but must be an object"),
        ({"preprocess_cfg": {"mean": 0.5}}, "mean is 0.5, but must be three numbers"),
    ],
)
def test_openclips_names_without_what_they_compute_are_refused(
    config: dict[str, Any] | None, says: str, tmp_path: Path
) -> None:
    openclip_folder(peer(), tmp_path, config or {})
    if config is None:
        (tmp_path / "open_clip_config.json").unlink()
    with pytest.raises(UserError, match=says):
        import_weights("clip", tmp_path, tmp_path / "imported")


def test_hugging_faces_weights_without_their_config_are_refused(tmp_path: Path) -> None:
    peer().save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json lies beside them"):
        import_weights("clip", tmp_path, tmp_path / "imported")


def test_the_command_says_the_licence_and_which_sizes_are_others(tmp_path: Path) -> None:
    source = openai_file(peer(), tmp_path)
    done = tiny.run(import_command("clip", source, tmp_path / "imported"))
    assert done.returncode == 0, done.stderr
    assert "licence of the published weights: MIT" in done.stdout
    assert "visual.transformer.resblocks.*.attn.in_proj_weight" in done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert "not the published sizes: width is 128, not 768, layers is 2, not 12" in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'; .*: gelu, quick_gelu"),
        ({"num_attention_heads": "2"}, "num_attention_heads is '2', but the width 128 must be"),
        ({"num_attention_heads": 3}, "num_attention_heads is 3, .* width 128 must be a mult"),
    ],
)
def test_what_is_not_computed_here_is_refused(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    peer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | options))
    with pytest.raises(UserError, match=says):
        import_weights("clip", tmp_path, tmp_path / "imported")


def test_pictures_are_normalised_as_the_processor_of_transformers_does() -> None:
    from transformers import CLIPImageProcessor

    processor = CLIPImageProcessor(
        do_resize=False, do_center_crop=False, size={"height": SIDE, "width": SIDE}
    )
    wanted = processor(list(pictures()), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(
        jax.device_get(normalise(pictures())), wanted.transpose(0, 2, 3, 1), atol=1e-6
    )
