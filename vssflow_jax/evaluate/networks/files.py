"""Features in the folders where metrics look for them.

A folder has those of the generated sounds, and another those of the references: sounds, videos and
captions.
In it lie stores (`networks.store`) that `networks.extract` has made, or `.pth` files as
av-benchmark keeps them, each a dict of clip name -> tensor, made by its own `extract.py`,
`extract_video.py` and `extract_text.py`. What is paired, and what is not, is as in its
`av_bench/evaluate.py`.
"""

import dataclasses
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.networks import nisqa
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.object_cache import local
from vssflow_jax.utils.optional import require

Clips = Mapping[str, NDArray[np.float32]]
"""Clip name -> its features."""
Backbones = Mapping[str, Path]
"""Kind of a network -> the file or folder of its weights."""

AUDIOSET_CLASSES: Final = 527


@dataclasses.dataclass(frozen=True)
class Cache:
    """Features by one network.

    Attributes:
      judge: name of the judge that makes them, a key of `judges.JUDGES`.
      key: their key in its store.
      shape: shape of those of a clip; None where any size may be.
      file: name of av-benchmark's file of them; "" if it has none.
      entry: their key in it, where a clip has a dict of tensors.
    """

    judge: str
    key: str
    shape: tuple[int | None, ...]
    file: str = ""
    entry: str = ""

    def there(self, directory: Path) -> bool:
        """Whether a folder has them."""
        return Store(directory / self.judge).exists or self._is_file(directory)

    def _is_file(self, directory: Path) -> bool:
        return bool(self.file) and (directory / self.file).is_file()

    def origin(self, directory: Path) -> dict[str, Any]:
        """What they depend on, as their store has it; nothing of av-benchmark's file."""
        return Store(directory / self.judge).origin


PASST_FEATURES: Final = Cache("passt", "features", (768,), "passt_features_embed.pth")
PASST_LOGITS: Final = Cache("passt", "logits", (AUDIOSET_CLASSES,), "passt_logits.pth")
IMAGEBIND_VIDEO: Final = Cache("imagebind_video", "video", (1024,), "imagebind_video.pth")
IMAGEBIND_AUDIO: Final = Cache("imagebind_sound", "sound", (1024,), "imagebind_audio.pth")
CLAP_FEATURES: Final = Cache("clap", "features", (512,), "clap_laion_audio.pth")
CLAP_TEXT: Final = Cache("clap_text", "features", (512,), "clap_laion_text.pth")
VOICE: Final = Cache("rawnet3", "features", (None,))
OPINION: Final = Cache("utmos", "score", ())
ENJOYMENT: Final = Cache("audiobox", "ce", ())
USEFULNESS: Final = Cache("audiobox", "cu", ())
COMPLEXITY: Final = Cache("audiobox", "pc", ())
QUALITY: Final = Cache("audiobox", "pq", ())
NISQA_SCORES: Final = {name: Cache("nisqa", name, ()) for name in nisqa.SCORES}
SYNCNET_SOUND: Final = Cache("syncnet_sound", "sound", (None, 1024))
SYNCNET_VIDEO: Final = Cache("syncnet_video", "video", (None, 1024))
SYNCNET_FIRST: Final = Cache("syncnet_video", "first", ())
TEXT: Final = Cache("whisper", "text", (None,))


def read(directory: Path, cache: Cache) -> Clips:
    """The features of all clips in a folder, in the order of its names or of its file.

    They stay in their files until they are used.

    Raises:
      UserError: they are missing, damaged or of another shape; torch is not installed, and they are
        in a file of torch.
    """
    own = Store(directory / cache.judge)
    if own.exists:
        stored = own.read(cache.key)
        clips: Clips = stored
        path, shapes = own.folder, stored.shapes
    else:
        path = directory / cache.file
        clips = _tensors(path, cache)
        shapes = {clip: tensor.shape for clip, tensor in clips.items()}
    for clip, shape in shapes.items():
        if not _fits(shape, cache.shape):
            what = f"'{cache.entry}' of clip" if cache.entry else "clip"
            expected = ", ".join("any" if size is None else str(size) for size in cache.shape)
            raise UserError(
                f"{path}: {what} '{clip}' has shape {list(shape)}, expected [{expected}]; extract "
                "it again with the network that the file is named for"
            )
    return clips


def _tensors(path: Path, cache: Cache) -> dict[str, NDArray[np.float32]]:
    loaded = _load(path)
    if not isinstance(loaded, dict) or not loaded:
        raise UserError(f"{path} holds no dict of clips; extract it again")
    clips: dict[str, NDArray[np.float32]] = {}
    for clip, value in loaded.items():
        tensor: Any = value.get(cache.entry) if isinstance(value, dict) else value
        # What is no tensor has no shape either, which is refused where shapes are.
        is_tensor = hasattr(tensor, "float")
        clips[str(clip)] = tensor.float().numpy() if is_tensor else np.zeros((), np.float32)
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
    file = local(path)
    try:
        return torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
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
