"""Weights of AV-HuBERT, from the names of its published file."""

from collections.abc import Mapping

import numpy as np

from vssflow_jax.networks import convert, convert_wav2vec
from vssflow_jax.networks.av_hubert import BLOCKS_OF_A_LAYER, AVHubertConfig
from vssflow_jax.networks.convert import Names
from vssflow_jax.networks.convert_wav2vec import Source
from vssflow_jax.weights.mapping import Rule

PUBLISHED = "AV-HuBERT (self_large_vox_433h.pt)"
_RESNET = "feature_extractor_video.resnet."
_STEM = f"{_RESNET}frontend3D.0.weight"
# The decoder of the fine-tuned network; within the encoder, sound and what only training needs.
_UNUSED = ("decoder.",)
_UNUSED_WITHIN = ("feature_extractor_audio.", convert_wav2vec.MASK, "label_embs", "final_proj.")


def unused(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """What names of tensors that are not needed start with."""
    prefix = _prefix(tensors)
    return (*_UNUSED, *(f"{prefix}{name}" for name in _UNUSED_WITHIN))


def config(tensors: Mapping[str, np.ndarray]) -> AVHubertConfig:
    """The sizes of the network in a file.

    Raises:
      UserError: the file is of another network.
    """
    source = Source(tensors, _prefix(tensors), PUBLISHED)
    stages = convert.count(tensors, f"{source.prefix}{_RESNET}trunk.layer")
    return AVHubertConfig(
        **convert_wav2vec.trunk_sizes(source),
        channels=tuple(
            source.shape(f"{_RESNET}trunk.layer{stage}.0.conv1.weight", 4)[0]
            for stage in range(1, stages + 1)
        ),
    )


def names(tensors: Mapping[str, np.ndarray]) -> Names:
    """Where a file keeps the weights of an `AVHubert`.

    Raises:
      UserError: it is of another network.
    """
    prefix = _prefix(tensors)
    own = Names(
        modules={
            "resnet.norm": f"{prefix}{_RESNET}frontend3D.1.",
            "resnet.activation": f"{prefix}{_RESNET}frontend3D.2.",
            **_residual_blocks(prefix, len(config(tensors).channels)),
            "project": f"{prefix}feature_extractor_video.proj.",
            "norm": f"{prefix}layer_norm.",
            "fuse": f"{prefix}post_extract_proj.",
        },
        rules=(Rule("resnet.stem.w_xio", (f"{prefix}{_STEM}",), _frames_as_channels),),
    )
    return convert_wav2vec.trunk(prefix).joined(own)


def _residual_blocks(prefix: str, layers: int) -> dict[str, str]:
    """Our modules of the ResNet's blocks, and theirs."""
    parts = {
        "conv1": "conv1",
        "norm1": "bn1",
        "activation1": "relu1",
        "conv2": "conv2",
        "norm2": "bn2",
        "activation2": "relu2",
        "shortcut.conv": "downsample.0",
        "shortcut.norm": "downsample.1",
    }
    return {
        f"resnet.layers.{layer}.blocks.{block}.{ours}": (
            f"{prefix}{_RESNET}trunk.layer{layer + 1}.{block}.{theirs}."
        )
        for layer in range(layers)
        for block in range(BLOCKS_OF_A_LAYER)
        for ours, theirs in parts.items()
    }


def _prefix(tensors: Mapping[str, np.ndarray]) -> str:
    return convert.prefix_of(tensors, _STEM, PUBLISHED)


def _frames_as_channels(kernel: np.ndarray) -> np.ndarray:
    """[o, 1, frames, *x] -> [*x, frames, o]."""
    return np.squeeze(kernel, axis=1).transpose(2, 3, 1, 0)
