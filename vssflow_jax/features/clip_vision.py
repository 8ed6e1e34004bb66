"""CLIP's picture encoder, from a local Hugging Face folder, in PyTorch (the `extract` extra)."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.footage import Footage, Look, Mouth
from vssflow_jax.media import View
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

_EXTRA = "extract"
_WHITE = 255.0
# Of the pictures that CLIP was trained on, red, green and blue.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True)
class ClipVision:
    """The class token before the final norm, 10 frames a second (REFERENCE section 3).

    Pictures are stretched to the network's square, and black after the end of the video.

    Attributes:
      folder: folder of a CLIP network, or of its picture half alone; the paper has ViT-B/16.
    """

    folder: Path

    @property
    def width(self) -> int:
        return _config(self.folder).hidden_size

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> Look:
        side = _config(self.folder).image_size
        return Look(View(spec.visual_rate, (side, side), "BICUBIC"), self._keep)

    def _keep(self, pictures: np.ndarray, before: np.ndarray) -> np.ndarray:
        return _network(self.folder)(pictures)

    def __call__(self, footage: Footage) -> np.ndarray:
        return footage.kept[self]


@functools.cache
def _config(folder: Path) -> Any:
    transformers = require("transformers", _EXTRA)
    try:
        return transformers.CLIPVisionConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"--clip={folder}: no Hugging Face folder with a config.json") from error


@functools.cache
def _network(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Of pictures uint8 [n, h, w, 3], loaded once a process; gives float32 [n, width]."""
    torch, transformers = require("torch", _EXTRA), require("transformers", _EXTRA)
    transformers.logging.set_verbosity_error()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)  # The other cores have workers of their own.
    try:
        model, loaded = transformers.CLIPVisionModel.from_pretrained(
            folder, config=_config(folder), local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"--clip={folder}: bad weights; download it again") from error
    if loaded["missing_keys"]:
        name = min(loaded["missing_keys"])
        raise UserError(f"--clip={folder}: it is no CLIP network, {name} is missing there")
    model.to(device).eval()
    mean, std = (torch.tensor(value, device=device)[:, None, None] for value in (_MEAN, _STD))

    def encode(frames: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2) / _WHITE
        with torch.inference_mode():
            tokens = model((pixels - mean) / std).last_hidden_state
        return tokens[:, 0].float().cpu().numpy()

    return encode
