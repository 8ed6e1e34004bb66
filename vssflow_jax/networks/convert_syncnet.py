"""Weights of SyncNet, from the names of its published file."""

from collections.abc import Mapping

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names
from vssflow_jax.networks.syncnet import SyncNetConfig
from vssflow_jax.weights.mapping import Rule

PUBLISHED = "SyncNet (syncnet_v2.model)"
# Places of the convolutions in the file's lists of layers; each is followed by its norm.
_PLACES = (0, 4, 8, 11, 14, 18)
_SOUND, _PICTURE = "netcnnaud.", "netcnnlip."


def config(tensors: Mapping[str, np.ndarray]) -> SyncNetConfig:
    """The sizes of the networks in a file.

    Raises:
      UserError: the file is of another network.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, name, axes, PUBLISHED)

    features, hidden = shape("netfcaud.3.weight", 2)
    return SyncNetConfig(
        sound=tuple(shape(f"{_SOUND}{place}.weight", 4)[0] for place in _PLACES),
        picture=tuple(shape(f"{_PICTURE}{place}.weight", 5)[0] for place in _PLACES),
        hidden=hidden,
        features=features,
    )


def _stages(module: str, stem: str) -> dict[str, str]:
    return {
        f"{module}.{number}.{part}": f"{stem}{place + behind}."
        for number, place in enumerate(_PLACES)
        for part, behind in (("conv", 0), ("norm", 1))
    }


def _head(module: str, stem: str) -> dict[str, str]:
    return {
        f"{module}.{part}": f"{stem}{place}."
        for part, place in (("inner", 0), ("norm", 1), ("outer", 3))
    }


def _frames_as_channels(kernel: np.ndarray) -> np.ndarray:
    """[o, colours, frames, *x] -> [*x, frames and colours, o]."""
    moved = kernel.transpose(3, 4, 2, 1, 0)
    return moved.reshape(*moved.shape[:2], -1, moved.shape[-1])


def _of_pictures(number: int, place: int) -> Rule:
    name = f"of_picture.{number}.conv.w_xio"
    return Rule(name, (f"{_PICTURE}{place}.weight",), _frames_as_channels)


NAMES = Names(
    modules={
        **_stages("of_sound", _SOUND),
        **_head("sound_head", "netfcaud."),
        **_stages("of_picture", _PICTURE),
        **_head("picture_head", "netfclip."),
    },
    rules=tuple(_of_pictures(number, place) for number, place in enumerate(_PLACES)),
)
