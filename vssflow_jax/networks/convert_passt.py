"""Weights of PaSST, from the names of its published file, or of hear21passt's model around it."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names
from vssflow_jax.networks.passt import PaSSTConfig
from vssflow_jax.weights.mapping import Rule

PUBLISHED = "PaSST (passt-s-f128-p16-s10-ap.476-swa.pt)"
HEAD_WIDTH = 64
_TIMES = "time_new_pos_embed"
# What hear21passt's model has beside the network: its front end, and where it runs.
_UNUSED = ("mel.", "device_proxy")
# A second head, which only training looks at.
_UNUSED_WITHIN = ("head_dist.",)


def unused(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """What names of tensors that are not needed start with."""
    prefix = _prefix(tensors)
    return (*_UNUSED, *(f"{prefix}{name}" for name in _UNUSED_WITHIN))


def config(tensors: Mapping[str, np.ndarray]) -> PaSSTConfig:
    """The sizes of the network in a file.

    Raises:
      UserError: the file is of another network.
    """
    prefix = _prefix(tensors)

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, f"{prefix}{name}", axes, PUBLISHED)

    d, _, patch, _ = shape("patch_embed.proj.weight", 4)
    return PaSSTConfig(
        width=d,
        layers=convert.count(tensors, f"{prefix}blocks."),
        heads=convert.parts_of(d, HEAD_WIDTH, "a head", PUBLISHED),
        inner_width=shape("blocks.0.mlp.fc1.weight", 2)[0],
        patch=patch,
        classes=shape("head.1.weight", 2)[0],
    )


def names(tensors: Mapping[str, np.ndarray]) -> Names:
    """Where a file keeps the weights of a `PaSST`.

    Raises:
      UserError: it is of another network.
    """
    prefix = _prefix(tensors)
    block = f"{prefix}blocks.*."
    firsts = tuple(f"{prefix}{name}" for name in ("cls_token", "dist_token", "new_pos_embed"))
    return Names(
        modules={
            "patches": f"{prefix}patch_embed.proj.",
            "blocks.norm1": f"{block}norm1.",
            **convert.thirds("blocks.attention", f"{block}attn.qkv."),
            "blocks.attention.out": f"{block}attn.proj.",
            "blocks.norm2": f"{block}norm2.",
            "blocks.ffw.inner": f"{block}mlp.fc1.",
            "blocks.ffw.outer": f"{block}mlp.fc2.",
            "norm": f"{prefix}norm.",
            "head_norm": f"{prefix}head.0.",
            "head": f"{prefix}head.1.",
        },
        rules=(
            Rule("band_places_nd", (f"{prefix}freq_new_pos_embed",), partial(_places, other=3)),
            Rule("time_places_nd", (f"{prefix}{_TIMES}",), partial(_places, other=2)),
            Rule("firsts_nd", firsts, _in_their_places),
        ),
    )


def _prefix(tensors: Mapping[str, np.ndarray]) -> str:
    return convert.prefix_of(tensors, _TIMES, PUBLISHED)


def _places(tensor: np.ndarray, other: int) -> np.ndarray:
    """[1, d, n, 1], or [1, d, 1, n] where axis 2 is the other one, -> [n, d]."""
    return np.squeeze(tensor, (0, other)).T


def _in_their_places(
    class_token: np.ndarray, distillation_token: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Two tokens [1, 1, d] and their places [1, 2, d] -> [2, d]."""
    return np.squeeze(np.concatenate([class_token, distillation_token], axis=1) + places, 0)
