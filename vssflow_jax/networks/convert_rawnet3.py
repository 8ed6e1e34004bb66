"""Weights of RawNet3, from the names of its published file."""

from collections.abc import Mapping

import numpy as np

from vssflow_jax.networks import convert
from vssflow_jax.networks.convert import Names, Tensor
from vssflow_jax.networks.rawnet3 import SAMPLING_RATE, RawNet3Config
from vssflow_jax.weights.mapping import Rule

PUBLISHED = "RawNet3 (model.pt)"
UNUSED = ("bn1.", "bn6.")
_BANK = "conv1.filterbank."
_BLOCKS = 3
_LOWEST_HERTZ, _LEAST_BAND_HERTZ = 50.0, 50.0


def config(tensors: Mapping[str, np.ndarray]) -> RawNet3Config:
    """The sizes of the network in a file.

    Raises:
      UserError: the file is of another network.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, name, axes, PUBLISHED)

    bands, _ = shape(f"{_BANK}low_hz_", 2)
    (half,) = shape(f"{_BANK}window_", 1)
    channels, *_ = shape("layer1.conv1.weight", 3)
    joined, *_ = shape("layer4.weight", 3)
    attention, *_ = shape("attention.0.weight", 3)
    embedding, _ = shape("fc6.weight", 2)
    scale = convert.count(tensors, "layer1.convs.") + 1
    convert.parts_of(channels, scale, "parts that are as many", PUBLISHED)
    return RawNet3Config(
        taps=2 * half + 1,
        filters=2 * bands,
        channels=channels,
        scale=scale,
        joined=joined,
        attention=attention,
        embedding=embedding,
    )


def names(tensors: Mapping[str, np.ndarray]) -> Names:
    """Where a file keeps the weights of a `RawNet3`."""
    parts = config(tensors).scale - 1
    bank = tuple(f"{_BANK}{name}" for name in ("low_hz_", "band_hz_", "window_", "n_"))
    return Names(
        modules={
            **_blocks(parts),
            "join": "layer4.",
            "pool.inner": "attention.0.",
            "pool.norm": "attention.2.",
            "pool.outer": "attention.3.",
            "norm": "bn5.",
            "project": "fc6.",
        },
        tensors={
            "front_end.emphasis_x": Tensor("preprocess.0.flipped_filter", (0, 1)),
            "front_end.gain": Tensor("preprocess.1.weight", (0,)),
            "front_end.shift": Tensor("preprocess.1.bias", (0,)),
            **{
                f"blocks.{i}.alpha_d": Tensor(f"layer{i + 1}.afms.alpha", (1,))
                for i in range(_BLOCKS)
            },
        },
        rules=(Rule("front_end.filters.w_xio", bank, filters),),
    )


def _blocks(parts: int) -> dict[str, str]:
    """Our modules of the three blocks, and theirs."""
    modules = {
        "enter": "conv1",
        "enter_norm": "bn1",
        **{f"convs.{i}": f"convs.{i}" for i in range(parts)},
        **{f"norms.{i}": f"bns.{i}" for i in range(parts)},
        "leave": "conv3",
        "leave_norm": "bn3",
        "shortcut": "residual.0",
        "gate": "afms.fc",
    }
    return {
        f"blocks.{i}.{ours}": f"layer{i + 1}.{theirs}."
        for i in range(_BLOCKS)
        for ours, theirs in modules.items()
    }


def filters(
    low_hz: np.ndarray, band_hz: np.ndarray, window: np.ndarray, angles: np.ndarray
) -> np.ndarray:
    """Band-pass filters [x, 1, o]: cosines, then sines, each as long as twice the window and one.

    Args:
      low_hz: [bands, 1], lower ends of the bands, less the lowest that there is.
      band_hz: [bands, 1], their widths, less the least.
      window: [half], the left half of what tapers a filter.
      angles: [1, half], 2 pi time, in seconds before the middle.
    """
    # Angles reach 400, whose sines in float32 would have five digits.
    exact = (x.astype(np.float64) for x in (low_hz, band_hz, window, angles))
    low_hz, band_hz, window, angles = exact
    low = _LOWEST_HERTZ + np.abs(low_hz)
    high = np.clip(low + _LEAST_BAND_HERTZ + np.abs(band_hz), _LEAST_BAND_HERTZ, SAMPLING_RATE / 2)
    width = 2 * (high - low)
    taper = window / (angles / 2)
    even = (np.sin(high * angles) - np.sin(low * angles)) * taper
    odd = (np.cos(low * angles) - np.cos(high * angles)) * taper
    cosines = np.concatenate([even, width, even[:, ::-1]], axis=1)
    sines = np.concatenate([odd, np.zeros_like(width), -odd[:, ::-1]], axis=1)
    return (np.concatenate([cosines / width, sines / width]).T)[:, None]
