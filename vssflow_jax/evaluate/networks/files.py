"""Features that lie in folders as av-benchmark keeps them.

A folder of `.pth` files, each a dict of clip name -> tensor, for the generated sounds, and another
for the references: sounds, and videos. They are made by av-benchmark's own `extract.py` and
`extract_video.py`, or, for the networks that are at hand, by `networks.extract`. What is paired,
and what is not, is as in its `av_bench/evaluate.py`.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.evaluate.networks import panns, synchformer, vggish
from vssflow_jax.evaluate.networks.weights import EXTRA, load_torch
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

Clips = Mapping[str, NDArray[np.float32]]
"""Clip name -> its features."""
Backbones = Mapping[str, Path]
"""Name of a network -> the file of its weights."""

PASST_WIDTH: Final = 768
IMAGEBIND_WIDTH: Final = 1024


@dataclasses.dataclass(frozen=True)
class Cache:
    """A file of features.

    Attributes:
      file: its name.
      shape: shape of the tensor of a clip; None where any size may be.
      key: of it, where a clip has a dict of tensors.
      network: at hand that makes it; "" if only av-benchmark does.
    """

    file: str
    shape: tuple[int | None, ...]
    key: str = ""
    network: str = ""


_PANNS = functools.partial(Cache, "pann_features.pth", network="panns")
PANNS_FEATURES: Final = _PANNS((panns.WIDTH,), f"{panns.WIDTH}")
PANNS_LOGITS: Final = _PANNS((panns.CLASSES,), "logits")
PANNS_PROBABILITIES: Final = _PANNS((panns.CLASSES,), "clipwise_output")
VGGISH: Final = Cache("vggish_features.pth", (None, vggish.WIDTH), network="vggish")
PASST_FEATURES: Final = Cache("passt_features_embed.pth", (PASST_WIDTH,))
PASST_LOGITS: Final = Cache("passt_logits.pth", (panns.CLASSES,))
IMAGEBIND_VIDEO: Final = Cache("imagebind_video.pth", (IMAGEBIND_WIDTH,))
IMAGEBIND_AUDIO: Final = Cache("imagebind_audio.pth", (IMAGEBIND_WIDTH,))
_SYNCHFORMER_SHAPE = {
    kind: (None, tokens, synchformer.WIDTH)
    for kind, tokens in (("video", synchformer.VIDEO_TOKENS), ("audio", synchformer.AUDIO_TOKENS))
}
SYNCHFORMER_VIDEO: Final = Cache("synchformer_video.pth", _SYNCHFORMER_SHAPE["video"])
SYNCHFORMER_AUDIO: Final = Cache("synchformer_audio.pth", _SYNCHFORMER_SHAPE["audio"])


def read(directory: Path, cache: Cache) -> Clips:
    """The features of all clips in a folder, in the order of the file.

    They stay in the file until they are used.

    Raises:
      UserError: the file is missing, damaged or of other features; torch is not installed.
    """
    path = directory / cache.file
    loaded = load_torch(path)
    if not isinstance(loaded, dict) or not loaded:
        raise UserError(f"{path} holds no dict of clips; extract it again")
    clips = {}
    for clip, value in loaded.items():
        tensor: Any = value.get(cache.key) if isinstance(value, dict) else value
        shape = tuple(getattr(tensor, "shape", ()))
        if not _fits(shape, cache.shape):
            what = f"'{cache.key}' of clip" if cache.key else "clip"
            expected = ", ".join("any" if size is None else str(size) for size in cache.shape)
            raise UserError(
                f"{path}: {what} '{clip}' has shape {list(shape)}, expected [{expected}]; extract "
                "it again with the network that the file is named for"
            )
        clips[str(clip)] = tensor.float().numpy()
    return clips


def write(directory: Path, clips: Mapping[str, Mapping[Cache, NDArray[np.floating]]]) -> None:
    """Write a file of features, which appears whole or not at all.

    Args:
      directory: is made if it is missing.
      clips: clip name -> its features; all are of one file.

    Raises:
      UserError: torch is not installed.
    """
    torch = require("torch", EXTRA)
    files = {cache.file for features in clips.values() for cache in features}
    assert len(files) == 1, f"features of one file, not of {files}"
    path = directory / files.pop()
    directory.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        torch.save({clip: _entry(torch, features) for clip, features in clips.items()}, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _entry(torch: Any, features: Mapping[Cache, NDArray[np.floating]]) -> Any:
    """What stands for a clip in a file: a tensor, or a dict of tensors."""
    tensors = {
        cache.key: torch.from_numpy(np.array(values, np.float32))
        for cache, values in features.items()
    }
    return tensors.get("", tensors)


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        wanted in (None, size) for size, wanted in zip(shape, expected, strict=True)
    )
