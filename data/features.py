"""Features of a clip: one interface for the encoders, and weights-free ones that need no download.

The paper's conditions come from CLIP, Synchformer, AV-HuBERT and RawNet3 (REFERENCE section 3).
The encoders here keep their frame rates and stand in their places, but are fixed arithmetic on
pixels and log-mels: what they compute is in their names. `data.encoders` has the others.
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from scipy.fft import dctn

from data.shards import Rejected
from vssflow_jax.audio import mel
from vssflow_jax.clip import ClipSpec, nearest, nearest_exact
from vssflow_jax.media import View

Box = tuple[int, int, int, int]

WIDTHS = {"clip": 768, "synch": 768, "lips": 1024, "speaker": 256}  # of the paper's extractors
STAND_IN_SIZE = (128, 192)  # height and width of the pictures that the weights-free encoders see
_WHITE = 255.0
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclasses.dataclass(frozen=True)
class Footage:
    """What encoders may look at, of one clip.

    Attributes:
      clip_id: its name.
      spec: geometry of the clips.
      duration_sec: of the clip itself.
      frames: pictures by view, uint8 [rate * window, h, w, 3], black after the end of the video.
      mouth: where the mouth is, (x0, y0, x1, y1) in pixels of the video; None if that is not known.
      voice: name of the speaker, empty without one.
      voice_sample: float32 [samples] at `spec.sampling_rate`; None without one.
    """

    clip_id: str
    spec: ClipSpec
    duration_sec: float
    frames: Mapping[View, np.ndarray]
    mouth: Box | None = None
    voice: str = ""
    voice_sample: np.ndarray | None = None


class Encoder(Protocol):
    """Makes one stream of features of a clip."""

    @property
    def width(self) -> int: ...

    def view(self, spec: ClipSpec) -> View | None:
        """The pictures that `frames` must hold for it, if any."""
        ...

    def __call__(self, footage: Footage) -> np.ndarray:
        """Float features at the encoder's own rate [frames, width], or [width] of a voice; empty
        where the clip has nothing to make them of.

        Raises:
          Rejected: what the clip brings is bad.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Encoders:
    """One encoder for each stream of features."""

    clip: Encoder
    synch: Encoder
    lips: Encoder
    speaker: Encoder

    @property
    def by_stream(self) -> dict[str, Encoder]:
        """The encoders by name, in the order of `vssflow_jax.records.STREAMS`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each stream."""
        return {name: encoder.width for name, encoder in self.by_stream.items()}

    def views(self, spec: ClipSpec) -> set[View]:
        """The pictures that all of them want."""
        views = (encoder.view(spec) for encoder in self.by_stream.values())
        return {view for view in views if view}

    def __call__(self, footage: Footage) -> dict[str, np.ndarray]:
        """Every stream of a clip, by name."""
        return {name: encoder(footage) for name, encoder in self.by_stream.items()}


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

    def view(self, spec: ClipSpec) -> View:
        return View(spec.video_rate, STAND_IN_SIZE)

    def __call__(self, footage: Footage) -> np.ndarray:
        frames = footage.frames[self.view(footage.spec)]
        seen = frames[nearest(len(frames), footage.spec.clip_frames)]
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

    def view(self, spec: ClipSpec) -> View:
        return View(spec.video_rate, STAND_IN_SIZE)

    def __call__(self, footage: Footage) -> np.ndarray:
        frames = footage.frames[self.view(footage.spec)]
        luma = frames.astype(np.float32) @ _LUMA / _WHITE  # [n, h, w]
        change = np.diff(luma, axis=0, prepend=luma[:1])
        total, net = (
            self.gain * pool(value[..., None], self.rows, self.columns)
            for value in (np.abs(change), change)
        )
        cells = np.concatenate([total + net, total - net], axis=1) / 2  # [n, width]
        # What changes in a frame that is passed over must not be lost: sum up to each frame taken.
        sums = np.cumsum(cells, axis=0)[nearest_exact(len(cells), footage.spec.synch_frames)]
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

    def view(self, spec: ClipSpec) -> View:
        return View(spec.video_rate)

    def __call__(self, footage: Footage) -> np.ndarray:
        if footage.mouth is None:
            return np.zeros((0, self.width), np.float32)
        x0, y0, x1, y1 = footage.mouth
        frames = footage.frames[self.view(footage.spec)][:, y0:y1, x0:x1]
        height, width = frames.shape[1:3]
        if (height, width) != (y1 - y0, x1 - x0) or height < self.rows or width < self.columns:
            raise Rejected(f"bad mouth_box: {footage.mouth} is too small or not within the picture")
        luma = frames.astype(np.float32) @ _LUMA / _WHITE  # [n, h, w]
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

    def view(self, spec: ClipSpec) -> None:
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


WEIGHTS_FREE = Encoders(PooledPixels(), PooledMotion(), MouthCosines(), MelStatistics())
