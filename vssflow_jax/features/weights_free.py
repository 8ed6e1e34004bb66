"""Features of a clip: one interface for the encoders, and weights-free ones that need no download.

The paper's conditions come from CLIP, Synchformer, AV-HuBERT and RawNet3 (REFERENCE section 3).
The encoders here keep their frame rates and stand in their places, but are fixed arithmetic on
pixels and log-mels: what they compute is in their names. `vssflow_jax.features.encoders` has the
others.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.fft import dctn

from vssflow_jax.audio import mel
from vssflow_jax.clip import ClipSpec, nearest, nearest_exact
from vssflow_jax.features import faces
from vssflow_jax.features.footage import (
    Box,
    Encoders,
    Footage,
    Found,
    Landmarks,
    LipReader,
    Look,
    Mouth,
)
from vssflow_jax.media import Track, View
from vssflow_jax.utils.errors import Rejected

STAND_IN_SIZE = (128, 192)  # height and width of the pictures that the weights-free encoders see
_WHITE = 255.0
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


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

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> Look:
        return Look(View(spec.video_rate, STAND_IN_SIZE), self._keep)

    def _keep(self, pictures: np.ndarray, before: np.ndarray) -> np.ndarray:
        return self.gain * pool(pictures.astype(np.float32) / _WHITE, self.rows, self.columns)

    def __call__(self, footage: Footage) -> np.ndarray:
        cells = footage.kept[self]
        return cells[nearest(len(cells), footage.spec.visual_frames)]


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

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> Look:
        return Look(View(spec.video_rate, STAND_IN_SIZE), self._keep)

    def _keep(self, pictures: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Brightening and darkening of each cell [n, width]."""
        luma = np.stack([before, *pictures]).astype(np.float32) @ _LUMA / _WHITE  # [1 + n, h, w]
        change = np.diff(luma, axis=0)
        total, net = (
            self.gain * pool(value[..., None], self.rows, self.columns)
            for value in (np.abs(change), change)
        )
        return np.concatenate([total + net, total - net], axis=1) / 2

    def __call__(self, footage: Footage) -> np.ndarray:
        cells = footage.kept[self]
        # What changes in a frame that is passed over must not be lost: sum up to each frame taken.
        sums = np.cumsum(cells, axis=0)[nearest_exact(len(cells), footage.spec.sync_frames)]
        return np.diff(sums, axis=0, prepend=0.0).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class MouthCosines(LipReader):
    """Lip stand-in: low spatial frequencies of the mouth's brightness, and their change in time.

    The clip's own mean is taken away: what is left is movement, whatever the face.
    """

    rows: int = 5
    columns: int = 8
    gain: float = 2.0

    @property
    def width(self) -> int:
        return 2 * self.rows * self.columns

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> Look | None:
        if mouth is None:
            return None
        assert not isinstance(mouth, Landmarks), "boxes, as `find_mouth` gives them"
        boxes: Any = itertools.repeat(mouth) if isinstance(mouth[0], int) else iter(mouth)
        return Look(View(spec.video_rate), functools.partial(self._keep, boxes))

    def check_installed(self) -> None:
        faces.check_installed()

    def find_mouth(
        self, track: Track, spec: ClipSpec, tick: Callable[[int], object] = lambda _: None
    ) -> Found | None:
        return faces.find_mouths(track, spec.video_rate, spec.video_frames, tick)

    def _keep(self, boxes: Iterator[Box], pictures: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The lowest cosines of the mouth [n, rows, columns], at the next boxes."""
        places = itertools.islice(boxes, len(pictures))
        frames = np.stack([*map(self._cut, places, pictures)])
        luma = frames.astype(np.float32) @ _LUMA / _WHITE  # [n, h, w]
        cosines = dctn(luma, axes=(1, 2), norm="ortho")
        return cosines[:, : self.rows, : self.columns].copy()  # All others are let go.

    def _cut(self, box: Box, picture: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = box
        mouth = picture[y0:y1, x0:x1]
        height, width = mouth.shape[:2]
        if (height, width) != (y1 - y0, x1 - x0) or height < self.rows or width < self.columns:
            raise Rejected(f"bad mouth_box: {box} is too small or not within the picture")
        return mouth

    def __call__(self, footage: Footage) -> np.ndarray:
        if self not in footage.kept:
            return np.zeros((0, self.width), np.float32)
        cosines = footage.kept[self]
        shape = self.gain * (cosines - cosines.mean(axis=0)).reshape(len(cosines), -1)
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

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> None:
        """It looks at nothing."""

    def __call__(self, footage: Footage) -> np.ndarray:
        waveform = footage.voice_sample
        if waveform is None:
            return np.zeros(0, np.float32)
        frames = len(waveform) // mel.HOP
        log_mel = np.asarray(mel.log_mel(jnp.asarray(waveform)[None], frames))[0]  # [n, m]
        loudness = log_mel.mean(axis=1)
        voiced = log_mel[loudness >= np.median(loudness)]
        mean = (voiced.mean(axis=0) - self.level) / self.spread
        return np.concatenate([mean, voiced.std(axis=0)]).astype(np.float32)


WEIGHTS_FREE = Encoders(
    {
        "visual": PooledPixels(),
        "sync": PooledMotion(),
        "lips": MouthCosines(),
        "speaker": MelStatistics(),
    }
)
