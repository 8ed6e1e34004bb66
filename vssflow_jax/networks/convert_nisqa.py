"""Weights of NISQA 2.0, from the names of its published file.

The file's own settings are not asked: its front end, and the maps that are pooled, are those of
the published weights.
"""

from collections.abc import Mapping

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names
from vssflow_jax.networks.nisqa import SCORES, NISQAConfig

PUBLISHED = "NISQA 2.0 (nisqa.tar)"
_CONVS = range(6)
_CNN, _TIME, _POOLS = "cnn.model.", "time_dependency.model.", "pool_layers."
_BLOCK = f"{_TIME}layers.*."


def config(tensors: Mapping[str, np.ndarray]) -> NISQAConfig:
    """The sizes of the network in a file.

    Raises:
      UserError: the file is of another network.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, name, axes, PUBLISHED)

    first, second, others = (shape(f"{_CNN}conv{i}.weight", 4)[0] for i in (1, 2, 3))
    return NISQAConfig(
        channels=(first, second, others),
        width=shape(f"{_TIME}linear.weight", 2)[0],
        layers=convert.count(tensors, f"{_TIME}layers."),
        inner_width=shape(f"{_TIME}layers.0.linear1.weight", 2)[0],
        hidden=shape(f"{_POOLS}0.model.linear1.weight", 2)[0],
    )


def _pool(number: int) -> dict[str, str]:
    stem = f"{_POOLS}{number}.model.linear"
    return {
        f"pools.{number}.{ours}": f"{stem}{place}."
        for place, ours in enumerate(("inner", "outer", "score"), 1)
    }


NAMES = Names(
    modules={
        **{f"convs.{i}": f"{_CNN}conv{i + 1}." for i in _CONVS},
        **{f"norms.{i}": f"{_CNN}bn{i + 1}." for i in _CONVS},
        "project": f"{_TIME}linear.",
        "norm": f"{_TIME}norm1.",
        **convert.thirds("blocks.attention", f"{_BLOCK}self_attn.in_proj_"),
        "blocks.attention.out": f"{_BLOCK}self_attn.out_proj.",
        "blocks.norm1": f"{_BLOCK}norm1.",
        "blocks.ffw.inner": f"{_BLOCK}linear1.",
        "blocks.ffw.outer": f"{_BLOCK}linear2.",
        "blocks.norm2": f"{_BLOCK}norm2.",
        **{ours: theirs for i, _ in enumerate(SCORES) for ours, theirs in _pool(i).items()},
    }
)
