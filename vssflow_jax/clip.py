"""The geometry of a clip: rates and a duration go in, every length comes out.

Nobody else writes 250. Source: REFERENCE section 2 (audio) and section 3 (conditions).
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from vssflow_jax.utils.errors import UserError

LATENT_CHANNELS = 128
_ROUNDING = 1e-6
_INT16_SCALE = 32768.0


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """Rates (per second) and duration (seconds) of one training window.

    The defaults are those of the paper; a demo clip only changes `duration_sec`.

    Raises:
      UserError: the duration is not a whole, positive number of latent frames.
    """

    duration_sec: float = 10.0
    sampling_rate: int = 16_000
    mel_rate: int = 100
    latent_rate: int = 25
    visual_rate: int = 10
    video_rate: int = 25
    sync_rate: int = 24

    def __post_init__(self) -> None:
        frames = self.duration_sec * self.latent_rate
        if not math.isfinite(frames) or frames < 1 or abs(frames - round(frames)) > _ROUNDING:
            raise UserError(
                f"clip.duration_sec is {self.duration_sec}; it must be a multiple of "
                f"{1 / self.latent_rate} s, the length of a latent frame"
            )

    @property
    def num_samples(self) -> int:
        """Audio samples in a clip."""
        return round(self.duration_sec * self.sampling_rate)

    @property
    def mel_frames(self) -> int:
        """Log-mel frames in a clip, `n`."""
        return round(self.duration_sec * self.mel_rate)

    @property
    def latent_frames(self) -> int:
        """Latent frames in a clip, `t`."""
        return round(self.duration_sec * self.latent_rate)

    @property
    def visual_frames(self) -> int:
        """Frames that the semantic (CLIP) encoder sees."""
        return round(self.duration_sec * self.visual_rate)

    @property
    def video_frames(self) -> int:
        """Frames of the video at the rate of the motion and lip encoders."""
        return round(self.duration_sec * self.video_rate)

    @property
    def sync_frames(self) -> int:
        """Frames of motion features."""
        return round(self.duration_sec * self.sync_rate)

    def phoneme_frames(self, duration_sec: float) -> int:
        """Latent frames over which the phonemes of a clip of `duration_sec` are stretched."""
        return int(self.latent_rate * duration_sec)


def windows(spec: ClipSpec, bucket_sec: Sequence[float]) -> list[ClipSpec]:
    """The windows of batches, the shortest first; the last is `spec`.

    Raises:
      UserError: one is no multiple of a latent frame, or they do not grow.
    """
    try:
        found = [dataclasses.replace(spec, duration_sec=seconds) for seconds in bucket_sec]
    except UserError as error:
        raise UserError(f"data.bucket_sec: {error}") from error
    for shorter, longer in itertools.pairwise([*found, spec]):
        if shorter.duration_sec >= longer.duration_sec:
            raise UserError(
                f"data.bucket_sec is {tuple(bucket_sec)}; give seconds that grow and stay below "
                f"clip.duration_sec, {spec.duration_sec}"
            )
    return [*found, spec]


def nearest(num_in: int, num_out: int) -> np.ndarray:
    """Source index of each output frame, as PyTorch's `interpolate(mode="nearest")` picks it.

    Args:
      num_in: frames there are.
      num_out: frames wanted.

    Returns:
      int64 indices [num_out]; PyTorch's float32 arithmetic is reproduced, since for some lengths
      it differs from exact integers (REFERENCE section 3).
    """
    scale = np.float32(num_in) / np.float32(num_out)
    position = np.arange(num_out, dtype=np.float32) * scale
    return np.minimum(np.floor(position).astype(np.int64), num_in - 1)


def nearest_exact(num_in: int, num_out: int) -> np.ndarray:
    """Source index of each output frame, as PyTorch's `interpolate(mode="nearest-exact")` picks it.

    PyTorch computes `fma(scale, d + 0.5, -0.5)` in float32. In float64 both the product and the
    difference are exact here, so rounding once to float32 is the fused operation.

    Args:
      num_in: frames there are.
      num_out: frames wanted.

    Returns:
      int64 indices [num_out].
    """
    scale = np.float64(np.float32(num_in) / np.float32(num_out))
    position = (scale * (np.arange(num_out) + 0.5) - 0.5).astype(np.float32)
    rounded = np.floor(np.maximum(position, np.float32(0)) + np.float32(0.5))
    return np.minimum(rounded.astype(np.int64), num_in - 1)


def stretch_phonemes(ids: np.ndarray, num_frames: int) -> np.ndarray:
    """Spread phoneme ids uniformly over `num_frames` frames (REFERENCE section 3).

    Each id is repeated until there are at least `num_frames` of them, and the nearest one is taken
    for each frame.

    Args:
      ids: integer ids [p], not empty.
      num_frames: latent frames to fill.

    Returns:
      ids [num_frames], dtype of `ids`.
    """
    if num_frames == 0:
        return ids[:0]
    repeats = max(1, math.ceil(num_frames / len(ids)))
    repeated = np.repeat(ids, repeats)
    return repeated[nearest(len(repeated), num_frames)]


def to_float(samples: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """int16 samples to float32 within [-1, 1]; those that are floats stay what they are.

    Args:
      samples: int16 or float32.
      out: gets them, if given.
    """
    scale = 1 / _INT16_SCALE if samples.dtype == np.int16 else 1.0
    return np.multiply(samples, scale, out=out, dtype=np.float32)


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """float samples within [-1, 1] to int16; what lies beyond is clipped."""
    limits = np.iinfo(np.int16)
    return np.clip(np.round(waveform * _INT16_SCALE), limits.min, limits.max).astype(np.int16)


def fit_length(frames: np.ndarray, num_frames: int) -> np.ndarray:
    """Cut `frames` [n, ...] to `num_frames`, or pad it with zeros at the end."""
    cut = frames[:num_frames]
    padding = [(0, num_frames - len(cut))] + [(0, 0)] * (frames.ndim - 1)
    return np.pad(cut, padding)
