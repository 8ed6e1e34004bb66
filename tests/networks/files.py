"""Files like those that networks are published in, with random numbers.

Names and shapes are those of the originals, which their golden data lists; sizes can be made small.
"""

import argparse
import fnmatch
import json
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parents[1] / "parity" / "data" / "networks"

Shapes = dict[str, tuple[int, ...]]
Tensors = dict[str, torch.Tensor]
Smaller = Mapping[str, Mapping[int, int]]
"""Pattern of names -> a size as published -> one for tests; the first pattern that fits counts."""


class Published(NamedTuple):
    """A file of a publisher.

    Attributes:
      file: its name.
      shapes: of the tensors that are used, by name.
      ignored: of some that are not.
      write: tensors into a file.
    """

    file: str
    shapes: Shapes
    ignored: Shapes
    write: Callable[[Tensors, Path], None]

    def tensors(self) -> Tensors:
        """Random tensors, those that are ignored behind the others."""
        generator = torch.Generator().manual_seed(0)
        return {
            name: _random(name, shape, generator)
            for name, shape in (self.shapes | self.ignored).items()
        }


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    values = torch.randn(shape, generator=generator) / max(shape[1:], default=4) ** 0.5
    # Of filters, places in the band and in time.
    return values.abs() if name.endswith(("running_var", "_")) else values


def _golden_shapes(name: str) -> Shapes:
    golden = np.load(GOLDEN / f"{name}.npz")
    return {
        str(name): tuple(json.loads(str(shape)))
        for name, shape in zip(golden["names"], golden["shapes"], strict=True)
    }


def _made_smaller(shapes: Shapes, smaller: Smaller, without: str = "") -> Shapes:
    """Shapes in other sizes, without the names that a pattern fits."""

    def sizes(name: str) -> Mapping[int, int]:
        fitting = (sizes for pattern, sizes in smaller.items() if fnmatch.fnmatch(name, pattern))
        return next(fitting, {})

    return {
        name: tuple(sizes(name).get(size, size) for size in shape)
        for name, shape in shapes.items()
        if not fnmatch.fnmatch(name, without)
    }


# ------------------------------------------------------------------------------------ Synchformer
def synchformer(*, small: bool) -> Published:
    """Two blocks of 128 channels, and pictures of 32 x 32; or as published."""
    shapes = _golden_shapes("synchformer")
    if small:
        sizes = {768: 128, 2304: 384, 3072: 192, 197: 5}
        shapes = _made_smaller(shapes, {"*": sizes}, without="*.blocks.[2-9].*")
        shapes = _made_smaller(shapes, {}, without="*.blocks.1[01].*")
    unused = {name: shapes.pop(name) for name in [*shapes] if ".patch_embed." in name}
    ignored: Shapes = {
        "afeat_extractor.ast.embeddings.cls_token": (1, 1, 8),
        "afeat_extractor.ast.encoder.layer.0.attention.attention.query.weight": (8, 8),
        "vproj.weight": (8, 8),
        "aproj.bias": (8,),
        "transformer.OFF_tok": (1, 1, 8),
        "transformer.blocks.0.attn.key.weight": (8, 8),
    }
    return Published(
        "synchformer_state_dict.pth",
        shapes,
        unused | ignored,
        lambda tensors, path: torch.save(OrderedDict(tensors), path),
    )


# -------------------------------------------------------------------------------------- AV-HuBERT
class Settings(dict):
    """As omegaconf keeps them, in a class that is not there where the file is read."""


ELSEWHERE = ("omegaconf", "omegaconf.dictconfig")
Settings.__module__ = ELSEWHERE[-1]
PREFIX = "encoder.w2v_model."


def av_hubert(*, small: bool) -> Published:
    """Two blocks of 128 channels, and narrow maps; or as published, which is 24 blocks of 1024."""
    shapes = _golden_shapes("av_hubert")
    last = [name for name in shapes if name.startswith("encoder.layers.3.")]
    if small:
        channels = {64: 8, 128: 16, 256: 24, 512: 32}
        smaller = {
            "*.resnet.*": channels,
            "feature_extractor_video.proj.*": {1024: 128, **channels},
            "encoder.pos_conv.0.weight_g": {},
            "encoder.pos_conv.0.weight_v": {1024: 128, 64: 8},
            "*": {1024: 128, 2048: 256, 4096: 192},
        }
        shapes = _made_smaller(shapes, smaller, without="encoder.layers.[23].*")
    else:
        for layer in range(4, 24):
            shapes |= {name.replace(".3.", f".{layer}.", 1): shapes[name] for name in last}
    counters = {name: shapes.pop(name) for name in [*shapes] if name.endswith("tracked")}
    ignored: Shapes = {
        "mask_emb": (8,),
        "label_embs_concat": (6, 8),
        "final_proj.weight": (8, 8),
        "feature_extractor_audio.proj.weight": (8, 104),
    }
    within = {f"{PREFIX}{name}": shape for name, shape in (counters | ignored).items()}
    return Published(
        "self_large_vox_433h.pt",
        {f"{PREFIX}{name}": shape for name, shape in shapes.items()},
        within | {"decoder.embed_tokens.weight": (9, 8), "decoder.layers.0.fc1.bias": (8,)},
        _save_beside_settings,
    )


def _save_beside_settings(tensors: Tensors, path: Path) -> None:
    """Tensors under `model`, beside what a trainer leaves."""
    parts = {
        "args": argparse.Namespace(data="/data", lr=[1e-3]),
        "cfg": Settings(task=Settings(name="av_hubert_pretraining"), model=None),
        "model": tensors,
        "criterion": None,
        "optimizer_history": [{"num_updates": 7, "lr_scheduler_state": {"best": 0.5}}],
        "task_state": {"s2s_tokenizer": Settings(), "dictionaries": [Settings()]},
        "extra_state": {"epoch": 3, "val_loss": 0.1},
        "last_optimizer_state": None,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ELSEWHERE:
            patch.setitem(sys.modules, name, types.ModuleType(name))
        vars(sys.modules[ELSEWHERE[-1]])["Settings"] = Settings
        torch.save(parts, path)


# ---------------------------------------------------------------------------------------- RawNet3
def rawnet3(*, small: bool) -> Published:
    """Blocks of 32 channels in 8 parts, and 16 filters; or as published."""
    shapes = _golden_shapes("rawnet3")
    if small:
        smaller = {
            "conv1.*": {128: 8},
            "layer?.conv[s0-9]*": {1024: 32, 256: 16, 128: 4},
            "layer?.bns.*": {128: 4},
            "attention.*": {4608: 144, 1536: 48, 128: 8},
            "fc6.*": {3072: 96, 256: 12},
            "*": {1024: 32, 3072: 96, 1536: 48, 256: 16},
        }
        shapes = _made_smaller(shapes, smaller)
    unused = {
        name: shapes.pop(name)
        for name in [*shapes]
        if name.startswith(("bn1.", "bn6.")) or name.endswith("tracked")
    }
    return Published(
        "model.pt", shapes, unused, lambda tensors, path: torch.save({"model": tensors}, path)
    )


# ------------------------------------------------------------------------------------------ UTMOS
def utmos(*, small: bool) -> Published:
    """Two blocks of 128 channels, and a small memory; or as published."""
    shapes = _golden_shapes("utmos")
    if small:
        smaller = {
            "blstm.weight_ih*": {2048: 32, 1024: 144},
            "blstm.weight_hh*": {2048: 32, 512: 8},
            "blstm.bias*": {2048: 32},
            "projection.*": {2048: 24, 1024: 16},
            "*_emb": {128: 8},
            "*.conv_layers.*": {512: 16},
            "wav2vec2.layer_norm.*": {512: 16},
            "*.post_extract_proj.weight": {768: 128, 512: 16},
            "*.weight_g": {},
            "*.weight_v": {768: 128, 48: 8},
            "*": {768: 128, 3072: 192},
        }
        shapes = _made_smaller(shapes, smaller, without="*.encoder.layers.[2-9].*")
        shapes = _made_smaller(shapes, {}, without="*.encoder.layers.1[01].*")
    unused = {"wav2vec2.mask_emb": shapes.pop("wav2vec2.mask_emb")}
    return Published("utmos22_strong_step7459_v1.pt", shapes, unused, torch.save)


# --------------------------------------------------------------------------- Audiobox-Aesthetics
RATINGS = "target_transform"


def audiobox(*, small: bool) -> Published:
    """Two blocks of 128 channels; or as published. The ratings are numbers, not tensors, there."""
    shapes = _golden_shapes("audiobox")
    if small:
        smaller = {
            "layer_weights.*": {13: 3},
            "*.conv_layers.*": {512: 16},
            "wavlm_model.layer_norm.*": {512: 16},
            "*.post_extract_proj.weight": {768: 128, 512: 16},
            "*.relative_attention_bias.*": {320: 32, 12: 2},
            "*.grep_a": {12: 2},
            "*.weight_g": {},
            "*.weight_v": {768: 128, 48: 8},
            "*": {768: 128, 3072: 192},
        }
        shapes = _made_smaller(shapes, smaller, without="*.encoder.layers.[2-9].*")
        shapes = _made_smaller(shapes, {}, without="*.encoder.layers.1[01].*")
    numbers = {f"{RATINGS}.{x}.{y}": () for x in ("CE", "CU", "PC", "PQ") for y in ("mean", "std")}
    named = {f"model.{name}": shape for name, shape in shapes.items()}
    unused = {"model.wavlm_model.mask_emb": named.pop("model.wavlm_model.mask_emb")}
    return Published("checkpoint.pt", numbers | named, unused, _save_beside_ratings)


def _save_beside_ratings(tensors: Tensors, path: Path) -> None:
    """Tensors under `state_dict`, beside the sizes of the perceptrons and the ratings."""
    held = {name: x for name, x in tensors.items() if not name.startswith(RATINGS)}
    settings = {"proj_num_layer": 5, "proj_ln": True, "nth_layer": 13, "normalize_embed": True}
    torch.save(
        {"state_dict": held, "model_cfg": settings, RATINGS: ratings_of(tensors)},
        path,
    )


def ratings_of(tensors: Tensors) -> dict[str, dict[str, float]]:
    """Mean and deviation of each axis, as the publisher keeps them."""
    found: dict[str, dict[str, float]] = {}
    for name, number in tensors.items():
        if name.startswith(RATINGS):
            _, axis, what = name.split(".")
            found.setdefault(axis, {})[what] = number.item()
    return found


# ------------------------------------------------------------------------------------------ NISQA
def nisqa(*, small: bool) -> Published:
    """Convolutions of 8 channels at most, and blocks of 24; or as published."""
    shapes = _golden_shapes("nisqa")
    if small:
        smaller = {
            "cnn.*": {16: 4, 32: 6, 64: 8},
            "*": {64: 24, 192: 72, 384: 48, 128: 12},
        }
        shapes = _made_smaller(shapes, smaller)
    unused = {name: shapes.pop(name) for name in [*shapes] if name.endswith("tracked")}
    return Published("nisqa.tar", shapes, unused, _save_beside_arguments)


def _save_beside_arguments(tensors: Tensors, path: Path) -> None:
    """Tensors beside what the network was trained by, in part."""
    arguments = {"name": "NISQAv2", "ms_sr": None, "ms_fmax": 20_000, "cnn_pool_1": [24, 7]}
    torch.save({"args": arguments, "model_state_dict": OrderedDict(tensors)}, path)


# ------------------------------------------------------------------------------------------ PaSST
def passt(*, small: bool) -> Published:
    """Two blocks of 128 channels, and nine classes; or as published."""
    shapes = _golden_shapes("passt")
    if small:
        smaller = {"*": {768: 128, 2304: 384, 3072: 192, 527: 9}}
        shapes = _made_smaller(shapes, smaller, without="blocks.[2-9].*")
        shapes = _made_smaller(shapes, {}, without="blocks.1[01].*")
    unused = {name: shapes.pop(name) for name in [*shapes] if name.startswith("head_dist.")}
    return Published("passt-s-f128-p16-s10-ap.476-swa.pt", shapes, unused, torch.save)


# ------------------------------------------------------------------------------------------- CLIP
def clip(*, small: bool) -> Published:
    """OpenAI's: two blocks of 128 channels, and pictures of 32 x 32; or as published."""
    d, inner, layers, tokens = (128, 192, 2, 5) if small else (768, 3072, 12, 197)
    norm: Shapes = {"weight": (d,), "bias": (d,)}
    modules: dict[str, Shapes] = {
        "conv1": {"weight": (d, 3, 16, 16)},
        "ln_pre": norm,
    }
    for block in (f"transformer.resblocks.{layer}" for layer in range(layers)):
        modules |= {
            f"{block}.ln_1": norm,
            f"{block}.attn": {"in_proj_weight": (3 * d, d), "in_proj_bias": (3 * d,)},
            f"{block}.attn.out_proj": {"weight": (d, d), "bias": (d,)},
            f"{block}.ln_2": norm,
            f"{block}.mlp.c_fc": {"weight": (inner, d), "bias": (inner,)},
            f"{block}.mlp.c_proj": {"weight": (d, inner), "bias": (d,)},
        }
    shapes: Shapes = {"visual.class_embedding": (d,), "visual.positional_embedding": (tokens, d)}
    for module, parts in modules.items():
        shapes |= {f"visual.{module}.{part}": shape for part, shape in parts.items()}
    ignored: Shapes = {
        "visual.ln_post.weight": (d,),
        "visual.proj": (d, 16),
        "positional_embedding": (77, 16),
        "text_projection": (16, 16),
        "logit_scale": (),
        "transformer.resblocks.0.attn.in_proj_weight": (48, 16),
        "token_embedding.weight": (49, 16),
        "ln_final.weight": (16,),
        "input_resolution": (),
    }

    def write(tensors: Tensors, path: Path) -> None:
        as_program({name: tensor.half() for name, tensor in tensors.items()}, path)

    return Published("ViT-B-16.pt", shapes, ignored, write)


class Holder(torch.nn.Module):
    """A module whose tensors have the names that it is told."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]):
        super().__init__()
        modules: dict[str, Tensors] = {}
        for name, tensor in tensors.items():
            first, dot, rest = name.partition(".")
            if dot:
                modules.setdefault(first, {})[rest] = tensor
            elif tensor.is_floating_point():
                self.register_parameter(first, torch.nn.Parameter(tensor))
            else:
                self.register_buffer(first, tensor)
        for name, held in modules.items():
            self.add_module(name, Holder(held))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def as_program(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors as those of a program of TorchScript."""
    torch.jit.trace(Holder(tensors), torch.zeros(1)).save(str(path))


FILES: dict[str, Callable[..., Published]] = {
    "clip": clip,
    "synchformer": synchformer,
    "av_hubert": av_hubert,
    "rawnet3": rawnet3,
    "utmos": utmos,
    "audiobox": audiobox,
    "nisqa": nisqa,
    "passt": passt,
}


def import_command(kind: str, source: Path, out: Path) -> list[str]:
    """The command line that imports a file."""
    command = [sys.executable, "-m", "vssflow_jax.interop.import_weights"]
    return [*command, f"--kind={kind}", f"--source={source}", f"--out={out}"]


def as_read(tensors: Tensors) -> dict[str, Any]:
    """Tensors as `read_state_dict` gives them."""
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}
