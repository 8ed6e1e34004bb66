"""Weights of RawNet3, from the names of its authors' file, or of ESPnet's models of speakers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from vssflow_jax.networks import convert, rawnet3
from vssflow_jax.networks.convert import Names, Tensor
from vssflow_jax.networks.rawnet3 import SAMPLING_RATE, RawNet3Config
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.mapping import Rule

PUBLISHED = "RawNet3 (model.pt of its authors, 40epoch.pth of ESPnet)"
CONFIG_FILE = "config.yaml"
"""What ESPnet writes beside its weights."""
_BLOCKS = 3
_LOWEST_HERTZ, _LEAST_BAND_HERTZ = 50.0, 50.0


class _Layout(NamedTuple):
    """What names of tensors start with in a file, or are.

    Attributes:
      emphasis: the filter of two samples.
      wave_norm: norm of the waveform.
      bank: band-pass filters.
      blocks: blocks of convolutions, and what joins them.
      attention: of the pooling.
      norm: of what is pooled.
      project: map to the vector.
      unused: what is not needed.
      stride: of the band-pass filters, which no tensor tells.
    """

    emphasis: str
    wave_norm: str
    bank: str
    blocks: str
    attention: str
    norm: str
    project: str
    unused: tuple[str, ...]
    stride: int


_AUTHORS = _Layout(
    emphasis="preprocess.0.flipped_filter",
    wave_norm="preprocess.1.",
    bank="conv1.filterbank.",
    blocks="",
    attention="attention.",
    norm="bn5.",
    project="fc6.",
    unused=("bn1.", "bn6."),
    stride=RawNet3Config().stride,
)
_ESPNET = _Layout(
    emphasis="frontend.flipped_filter",
    wave_norm="frontend.norm.",
    bank="frontend.conv.filterbank.",
    blocks="encoder.",
    attention="pooling.attention.",
    norm="projector.bn.",
    project="projector.fc.",
    unused=("loss.",),
    stride=rawnet3.ESPNET.stride,
)


def is_espnet(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether names of tensors are ESPnet's."""
    return any(name.startswith(("frontend.", "projector.")) for name in tensors)


def _layout(tensors: Mapping[str, np.ndarray]) -> _Layout:
    return _ESPNET if is_espnet(tensors) else _AUTHORS


def unused(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """What names of tensors that are not needed start with."""
    return _layout(tensors).unused


def config(tensors: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> RawNet3Config:
    """The sizes of the network in a file.

    Args:
      tensors: of the file, by name.
      options: what ESPnet's config has, nested; of it the stride of the filters is taken. Where it
        has none, the stride is the published one.

    Raises:
      UserError: the file is of another network, or the options are.
    """
    layout = _layout(tensors)

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, name, axes, PUBLISHED)

    bands, _ = shape(f"{layout.bank}low_hz_", 2)
    (half,) = shape(f"{layout.bank}window_", 1)
    channels, *_ = shape(f"{layout.blocks}layer1.conv1.weight", 3)
    joined, *_ = shape(f"{layout.blocks}layer4.weight", 3)
    attention, *_ = shape(f"{layout.attention}0.weight", 3)
    embedding, _ = shape(f"{layout.project}weight", 2)
    scale = convert.count(tensors, f"{layout.blocks}layer1.convs.") + 1
    convert.parts_of(channels, scale, "parts that are as many", PUBLISHED)
    return RawNet3Config(
        taps=2 * half + 1,
        stride=_stride(options, layout.stride),
        filters=2 * bands,
        channels=channels,
        scale=scale,
        joined=joined,
        attention=attention,
        embedding=embedding,
    )


def read_options(path: Path) -> Mapping[str, Any]:
    """What ESPnet's config has, nested.

    Raises:
      UserError: it is no such file.
    """
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not YAML ({reason}); get it again") from error
    if not isinstance(options, dict) or not isinstance(options.get("frontend_conf", {}), dict):
        raise UserError(f"{path} is no config of ESPnet's; get it again, or take it away")
    return options


def _stride(options: Mapping[str, Any], published: int) -> int:
    """Samples from one frame of the front end to the next.

    Raises:
      UserError: the front end is one that is computed otherwise.
    """
    front_end = options.get("frontend_conf", {})
    offset = front_end.get("log_term", rawnet3.LOG_OFFSET)
    norm = options.get("normalize")
    if offset != rawnet3.LOG_OFFSET or norm is not None:
        raise UserError(
            f"the config beside the weights has log_term {offset} and normalize {norm}, which "
            f"{PUBLISHED} has not; get the weights and the config of espnet/voxcelebs12_rawnet3"
        )
    stride = front_end.get("sinc_stride", published)
    if not isinstance(stride, int) or stride < 1:
        raise UserError(
            f"the config beside the weights has sinc_stride {stride!r}, which is no number of "
            "samples; get it again"
        )
    return stride


def names(tensors: Mapping[str, np.ndarray]) -> Names:
    """Where a file keeps the weights of a `RawNet3`."""
    layout = _layout(tensors)
    parts = convert.count(tensors, f"{layout.blocks}layer1.convs.")
    bank = tuple(f"{layout.bank}{name}" for name in ("low_hz_", "band_hz_", "window_", "n_"))
    return Names(
        modules={
            **_blocks(layout, parts),
            "join": f"{layout.blocks}layer4.",
            "pool.inner": f"{layout.attention}0.",
            "pool.norm": f"{layout.attention}2.",
            "pool.outer": f"{layout.attention}3.",
            "norm": layout.norm,
            "project": layout.project,
        },
        tensors={
            "front_end.emphasis_x": Tensor(layout.emphasis, (0, 1)),
            "front_end.gain": Tensor(f"{layout.wave_norm}weight", (0,)),
            "front_end.shift": Tensor(f"{layout.wave_norm}bias", (0,)),
            **{
                f"blocks.{i}.alpha_d": Tensor(f"{layout.blocks}layer{i + 1}.afms.alpha", (1,))
                for i in range(_BLOCKS)
            },
        },
        rules=(Rule("front_end.filters.w_xio", bank, filters),),
    )


def _blocks(layout: _Layout, parts: int) -> dict[str, str]:
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
        f"blocks.{i}.{ours}": f"{layout.blocks}layer{i + 1}.{theirs}."
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
