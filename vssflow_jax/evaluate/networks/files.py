"""Features that lie in folders as av-benchmark keeps them.

A folder of `.pth` files, each a dict of clip name -> tensor, for the generated sounds, and another
for the references: sounds, and videos. They are made by av-benchmark's own `extract.py` and
`extract_video.py`, or, for the networks that are at hand, by `networks.extract`. What is paired,
and what is not, is as in its `av_bench/evaluate.py`.
"""

import dataclasses
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import write_atomically
from vssflow_jax.utils.optional import require

Clips = Mapping[str, NDArray[np.float32]]
"""Clip name -> its features."""
Backbones = Mapping[str, Path]
"""Name of a network -> the file of its weights."""

SAMPLING_RATE: Final = 16_000  # of what networks hear
AUDIOSET_CLASSES: Final = 527


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


Features = Mapping[Cache, NDArray[np.floating]]
"""Of a clip, all in one file."""
Network = Callable[[NDArray[np.float32]], Features]
"""Of a waveform [n] at `SAMPLING_RATE`; raises UserError if it is too short."""

PASST_FEATURES: Final = Cache("passt_features_embed.pth", (768,))
PASST_LOGITS: Final = Cache("passt_logits.pth", (AUDIOSET_CLASSES,))
IMAGEBIND_VIDEO: Final = Cache("imagebind_video.pth", (1024,))
IMAGEBIND_AUDIO: Final = Cache("imagebind_audio.pth", (1024,))


def read(directory: Path, cache: Cache) -> Clips:
    """The features of all clips in a folder, in the order of the file.

    They stay in the file until they are used.

    Raises:
      UserError: the file is missing, damaged or of other features; torch is not installed.
    """
    path = directory / cache.file
    loaded = _load(path)
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


def _load(path: Path) -> Any:
    """What `torch.save` wrote: tensors and containers of them, nothing else.

    Raises:
      UserError: no such file, a damaged one, or one that holds other objects; torch is not
        installed.
    """
    torch = require("torch", "convert")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged or holds more than tensors, and reading that could run its code; "
            "extract it again"
        ) from error
    except Exception as error:  # Damage shows in many ways.
        reason = str(error).partition(".")[0] or type(error).__name__
        raise UserError(f"{path} is not a whole file of torch: {reason}; get it again") from error


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        wanted in (None, size) for size, wanted in zip(shape, expected, strict=True)
    )


def write(directory: Path, clips: Mapping[str, Features]) -> None:
    """Write a file of features, which appears whole or not at all.

    Args:
      directory: is made if it is missing.
      clips: clip name -> its features; all are of one file.

    Raises:
      UserError: torch is not installed.
    """
    torch = require("torch", "convert")
    (file,) = {cache.file for features in clips.values() for cache in features}
    entries = {}
    for clip, features in clips.items():
        tensors = {
            cache.key: torch.from_numpy(np.array(values, np.float32))
            for cache, values in features.items()
        }
        entries[clip] = tensors.get("", tensors)  # a dict only where a clip has several
    content = io.BytesIO()
    torch.save(entries, content)
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / file, content.getvalue())
