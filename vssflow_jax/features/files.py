"""Features that another program has made, one .npy file for each clip or voice."""

import dataclasses
from pathlib import Path

import numpy as np

from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.footage import Footage, Mouth
from vssflow_jax.input_pipeline.records import in_code
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.utils.errors import Rejected
from vssflow_jax.utils.object_cache import local


@dataclasses.dataclass(frozen=True)
class Absent:
    """A stream that no clip has.

    Attributes:
      width: channels that the stream would have.
    """

    width: int

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> None:
        """It looks at nothing."""

    def __call__(self, footage: Footage) -> np.ndarray:
        return np.zeros((0, self.width), np.float32)


@dataclasses.dataclass(frozen=True)
class Files:
    """A stream of the paper's extractor, from files `CLIP_ID.npy`, of a voice `VOICE.npy`.

    A clip has none where the file is not there or holds zeros.

    Attributes:
      folder: folder of the files; its name is that of the stream in a dataset.
      width: channels of each.
    """

    folder: Path
    width: int

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> None:
        """It looks at nothing."""

    def __call__(self, footage: Footage) -> np.ndarray:
        name, spec = in_code(self.folder.name), footage.spec
        stream = STREAMS[name]
        of = footage.clip_id if stream.rate else footage.voice
        path = self.folder / f"{of}.npy"
        if not of or not path.exists():
            return Absent(self.width)(footage)
        features = in_shape(read_features(path), name, spec, path)
        if stream.rate and not stream.stretch and len(features):
            # Of the clip, or of all that it is the beginning of; else they may be of another rate.
            lengths_sec = (footage.duration_sec, footage.source_sec or footage.duration_sec)
            rate = stream.rate(spec)
            seconds = len(features) / rate
            if all(abs(seconds - x) > _FRAMES_OFF / rate + _SHARE_OFF * x for x in lengths_sec):
                raise Rejected(
                    f"wrong length: {path}: {name} of {seconds:.2f} s at {rate:g} frames a second, "
                    f"the clip lasts {footage.duration_sec:.2f} s"
                )
            features = features[: stream.frames(spec)]
        return features


TOLERANCE_SEC = 0.5
_FRAMES_OFF, _SHARE_OFF = 2, 0.01  # of a stream that lasts as long as the clip
_CAVP_KEY = "feat"
NO_FRAMES = np.zeros(0, np.float32)


def read_features(path: Path) -> np.ndarray:
    """The array of a .npy file, or of a .npz file of CAVP features; none if it is all zeros.

    Raises:
      Rejected: it cannot be read, or is not of finite floats.
    """
    try:
        loaded = np.load(local(path), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            array = loaded
        else:
            with loaded:
                array = loaded[_CAVP_KEY]
    except FileNotFoundError:
        raise Rejected(f"missing file: {path}") from None
    except Exception as error:  # Of damaged files NumPy raises whatever its parsers do.
        raise Rejected(f"unreadable file: {path}: {error}") from error
    if array.dtype.kind != "f":
        raise Rejected(f"wrong type: {path}: {array.dtype}, expected floats")
    with np.errstate(over="ignore"):
        kept = array.astype(np.float16)
    if not np.isfinite(kept).all():
        raise Rejected(f"not finite: {path}: NaN, infinity, or too large for {kept.dtype}")
    return np.atleast_1d(array) if array.any() else NO_FRAMES


def in_shape(array: np.ndarray, stream: str, spec: ClipSpec, path: Path) -> np.ndarray:
    """Checks that features have the shape of their stream, if there are any.

    A stream that is stretched is of the whole window, however short the clip.

    Returns:
      [frames, i], or [i] of a voice.

    Raises:
      Rejected: they have another shape.
    """
    if not array.size:
        return NO_FRAMES
    found, known = array.shape, STREAMS[stream]
    if known.windowed and array.shape[1:2] == (known.windowed,) and array.ndim == 3:
        array = array.reshape(-1, array.shape[-1])
    frames = known.frames(spec) if known.stretch else len(array)
    expected = (frames, known.width) if known.rate else (known.width,)
    if array.shape != expected:
        raise Rejected(f"wrong shape: {path}: {stream} is {found}, expected {expected}")
    return array
