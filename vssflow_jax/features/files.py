"""Features that another program has made, one .npy file for each clip or voice."""

import dataclasses
from pathlib import Path

import numpy as np

from data.manifest import TOLERANCE_SEC, in_shape, read_features
from data.shards import Rejected
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.weights_free import Footage, Mouth


@dataclasses.dataclass(frozen=True)
class Absent:
    """A stream that no clip has.

    Attributes:
      width: that it would have.
    """

    width: int

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> None:
        """It looks at nothing."""

    def __call__(self, footage: Footage) -> np.ndarray:
        return np.zeros((0, self.width), np.float32)


@dataclasses.dataclass(frozen=True)
class Files:
    """A stream of the paper's extractor, from files `CLIP_ID.npy`, of the speaker `VOICE.npy`.

    A clip has none where the file is not there or holds zeros.

    Attributes:
      folder: of the files; its name is the stream's.
      width: channels of each.
    """

    folder: Path
    width: int

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> None:
        """It looks at nothing."""

    def __call__(self, footage: Footage) -> np.ndarray:
        stream, spec = self.folder.name, footage.spec
        name = footage.voice if stream == "speaker" else footage.clip_id
        path = self.folder / f"{name}.npy"
        if not name or not path.exists():
            return Absent(self.width)(footage)
        features = in_shape(read_features(path), stream, spec, path)
        if stream == "lips" and len(features):
            features = features[: spec.video_frames]
            lips_sec = len(features) / spec.video_rate
            if abs(lips_sec - footage.duration_sec) > TOLERANCE_SEC:
                raise Rejected(
                    f"wrong length: {path}: lips of {lips_sec:.2f} s, the clip lasts "
                    f"{footage.duration_sec:.2f} s"
                )
        return features
