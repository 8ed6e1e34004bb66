"""Features of a clip: one interface for the encoders, and weights-free ones that need no download.

The paper's conditions come from CLIP, Synchformer, AV-HuBERT and RawNet3 (REFERENCE section 3).
The encoders here keep their frame rates and stand in their places, but are fixed arithmetic on
pixels and log-mels: what they compute is in their names.
"""

import dataclasses
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from scipy.fft import dctn

from vssflow_jax.audio import mel
from vssflow_jax.clip import ClipSpec, nearest, nearest_exact

Box = tuple[int, int, int, int]

_WHITE = 255.0
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class VideoEncoder(Protocol):
    """Turns the frames of a whole clip into features at the encoder's own rate."""

    @property
    def width(self) -> int: ...

    def __call__(self, frames: np.ndarray, spec: ClipSpec) -> np.ndarray:
        """uint8 [video_frames, h, w, 3] to float32 [encoder frames, width]."""
        ...


class LipEncoder(Protocol):
    """Turns the mouth region of a clip into features, one per video frame."""

    @property
    def width(self) -> int: ...

    def __call__(self, frames: np.ndarray, mouth: Box) -> np.ndarray:
        """uint8 [n, h, w, 3] and a box (x0, y0, x1, y1) in pixels to float32 [n, width]."""
        ...


class SpeakerEncoder(Protocol):
    """Turns a voice sample into one vector."""

    @property
    def width(self) -> int: ...

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """float32 [samples] at 16 kHz to float32 [width]."""
        ...


@dataclasses.dataclass(frozen=True)
class Encoders:
    """One encoder for each kind of feature."""

    clip: VideoEncoder
    synch: VideoEncoder
    lips: LipEncoder
    speaker: SpeakerEncoder


def pool(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Mean over the cells of a grid. [n, h, w, channels] -> [n, rows * columns * channels]."""
    n, height, width, channels = images.shape
    assert (height % rows, width % columns) == (0, 0), f"{height}x{width} in {rows}x{columns} cells"
    cells = images.reshape(n, rows, height // rows, columns, width // columns, channels)
    return cells.mean(axis=(2, 4)).reshape(n, -1)


@dataclasses.dataclass(frozen=True)
class PooledPixels:
    """Semantic stand-in: colours averaged over a coarse grid, at the CLIP rate.

    Linear in the pixels, so that features of pictures beside each other on black add up.
    """

    rows: int = 4
    columns: int = 6
    gain: float = 4.0

    @property
    def width(self) -> int:
        return self.rows * self.columns * 3

    def __call__(self, frames: np.ndarray, spec: ClipSpec) -> np.ndarray:
        seen = frames[nearest(len(frames), spec.clip_frames)]
        return self.gain * pool(seen.astype(np.float32) / _WHITE, self.rows, self.columns)


@dataclasses.dataclass(frozen=True)
class PooledMotion:
    """Motion stand-in: how much each cell brightens and how much it darkens, at Synchformer's rate.

    Synchformer's overlapping windows put its features a little out of order; these are in order.
    The brightening of all cells comes first, then their darkening.
    """

    rows: int = 8
    columns: int = 6
    gain: float = 40.0

    @property
    def width(self) -> int:
        return 2 * self.rows * self.columns

    def __call__(self, frames: np.ndarray, spec: ClipSpec) -> np.ndarray:
        luma = frames.astype(np.float32) @ _LUMA / _WHITE  # [n, h, w]
        change = np.diff(luma, axis=0, prepend=luma[:1])
        total, net = (
            self.gain * pool(value[..., None], self.rows, self.columns)
            for value in (np.abs(change), change)
        )
        cells = np.concatenate([total + net, total - net], axis=1) / 2  # [n, width]
        # What changes in a frame that is passed over must not be lost: sum up to each frame taken.
        sums = np.cumsum(cells, axis=0)[nearest_exact(len(cells), spec.synch_frames)]
        return np.diff(sums, axis=0, prepend=0.0).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class MouthCosines:
    """Lip stand-in: low spatial frequencies of the mouth's brightness, and their change in time.

    The clip's own mean is taken away: what is left is movement, whatever the face.
    """

    rows: int = 5
    columns: int = 8
    gain: float = 2.0

    @property
    def width(self) -> int:
        return 2 * self.rows * self.columns

    def __call__(self, frames: np.ndarray, mouth: Box) -> np.ndarray:
        x0, y0, x1, y1 = mouth
        luma = frames[:, y0:y1, x0:x1].astype(np.float32) @ _LUMA / _WHITE  # [n, h, w]
        cosines = dctn(luma, axes=(1, 2), norm="ortho")[:, : self.rows, : self.columns]
        shape = self.gain * (cosines - cosines.mean(axis=0)).reshape(len(frames), -1)
        change = np.diff(shape, axis=0, prepend=shape[:1])
        return np.concatenate([shape, change], axis=1)


@dataclasses.dataclass(frozen=True)
class MelStatistics:
    """Speaker stand-in: mean and deviation of the log-mel over the louder half of the frames.

    `level` and `spread` are those of typical speech, and bring the values near to unit variance.
    """

    width: int = 2 * mel.BANDS
    level: float = -4.0
    spread: float = 2.0

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        frames = len(waveform) // mel.HOP
        log_mel = np.asarray(mel.log_mel(jnp.asarray(waveform)[None], frames))[0]  # [n, m]
        loudness = log_mel.mean(axis=1)
        voiced = log_mel[loudness >= np.median(loudness)]
        mean = (voiced.mean(axis=0) - self.level) / self.spread
        return np.concatenate([mean, voiced.std(axis=0)]).astype(np.float32)


WEIGHTS_FREE = Encoders(PooledPixels(), PooledMotion(), MouthCosines(), MelStatistics())
