"""The paper's encoders: frozen networks, with weights that the user has (`docs/weights.md`).

Each is a `vssflow_jax.features.footage.Network`: what it is shown of a clip is made where the clip
is decoded, and the network itself runs where the accelerator is.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vssflow_jax.clip import ClipSpec, fit_length
from vssflow_jax.features import landmarks, mouth_crops, resize
from vssflow_jax.features.footage import Footage, Found, LipReader, Look, Mouth, Network
from vssflow_jax.media import Track, View
from vssflow_jax.networks import published, rawnet3, synchformer
from vssflow_jax.networks.spread import Spread
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

DTYPES = ("float32", "bfloat16")
_LIP_FRAMES_STEP = 50  # lengths that clips are padded to


@dataclasses.dataclass(frozen=True, repr=False)
class Frozen(Network):
    """What these encoders have in common.

    Attributes:
      folder: of imported weights, or a file or folder as published.
      cfg: sizes of the network.
      dtype: that it computes in.
    """

    folder: Path
    cfg: Any
    dtype: str = "float32"
    kind: ClassVar[str]

    def __repr__(self) -> str:
        """By what its weights are, for the metadata of a dataset, wherever they lie."""
        digest = published.digest(self.kind, self.folder)
        return f"{type(self).__name__}(digest={digest}, dtype={self.dtype})"

    def _run(self, *rows: np.ndarray) -> np.ndarray:
        """What the network makes of rows, on all local devices."""
        return Spread.load(self.kind, self.folder, self.dtype)(*rows)

    def _row_by_row(self, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the network makes of each row of examples, for each example."""
        ends = np.cumsum([len(example) for example in examples])
        return np.split(self._run(np.concatenate(examples)), ends[:-1])


class ClipVision(Frozen):
    """CLIP: the class token before the final norm, 10 pictures a second, each made a square."""

    kind = "clip"

    @property
    def width(self) -> int:
        return self.cfg.width

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> Look:
        del mouth
        return Look(View(spec.visual_rate), self._keep)

    def _keep(self, pictures: np.ndarray, before: np.ndarray) -> np.ndarray:
        del before
        return resize.stretch(pictures, self.cfg.image_size)

    def example(self, footage: Footage) -> np.ndarray:
        """Uint8 [frames, side, side, 3]."""
        return footage.kept[self]

    def features(self, examples: Sequence[np.ndarray], spec: ClipSpec) -> list[np.ndarray]:
        del spec
        return self._row_by_row(examples)


class Synchformer(Frozen):
    """Synchformer's picture side: 8 tokens of each segment of 16 pictures, of which half are new.

    The middle of each picture is taken. A window of so few pictures that the last segment is not
    full is continued in black, as a clip is that ends early.
    """

    kind = "synchformer"

    @property
    def width(self) -> int:
        return self.cfg.width

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> Look:
        del mouth
        return Look(View(spec.video_rate), self._keep)

    @property
    def grid(self) -> int:
        return synchformer.HOP

    def _keep(self, pictures: np.ndarray, before: np.ndarray) -> np.ndarray:
        del before
        return resize.fill(pictures, self.cfg.image_size)

    def example(self, footage: Footage) -> np.ndarray:
        """Uint8 [frames, side, side, 3], as many as fill the segments."""
        segments = -(-footage.spec.sync_frames // self.cfg.steps)
        frames = synchformer.HOP * (segments - 1) + self.cfg.frames
        return fit_length(footage.kept[self], frames)

    def features(self, examples: Sequence[np.ndarray], spec: ClipSpec) -> list[np.ndarray]:
        segments = [synchformer.segments(example, self.cfg.frames) for example in examples]
        tokens = self._row_by_row(segments)
        return [x.reshape(-1, self.width)[: spec.sync_frames] for x in tokens]


class AVHubert(Frozen, LipReader):
    """AV-HuBERT on the pictures of a mouth, as many as the clip lasts; none where nobody speaks."""

    kind = "av_hubert"

    @property
    def width(self) -> int:
        return self.cfg.width

    def check_installed(self) -> None:
        landmarks.check_installed()

    def find_mouth(
        self, track: Track, spec: ClipSpec, tick: Callable[[int], object] = lambda _: None
    ) -> Found:
        return landmarks.find_landmarks(track, spec.video_rate, spec.video_frames, tick)

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> Look | None:
        return None if mouth is None else Look(View(spec.video_rate), mouth_crops.cutter(mouth))

    def example(self, footage: Footage) -> np.ndarray:
        """Uint8 [frames, 88, 88]."""
        if self not in footage.kept:
            return np.zeros((0, mouth_crops.SIDE, mouth_crops.SIDE), np.uint8)
        frames = round(footage.duration_sec * footage.spec.video_rate)
        return footage.kept[self][:frames]

    def features(self, examples: Sequence[np.ndarray], spec: ClipSpec) -> list[np.ndarray]:
        del spec
        found = [np.zeros((0, self.width), np.float32)] * len(examples)
        lengths = np.array([len(example) for example in examples])
        padded = -(-lengths // _LIP_FRAMES_STEP) * _LIP_FRAMES_STEP
        for length in sorted(set(padded[lengths > 0].tolist())):
            chosen = np.flatnonzero(padded == length).tolist()
            mouths = np.stack([fit_length(examples[number], length) for number in chosen])
            made = self._run(mouths, lengths[chosen].astype(np.int32))
            for number, features in zip(chosen, made, strict=True):
                found[number] = features[: lengths[number]]
        return found


class RawNet3(Frozen):
    """RawNet3: the mean of the vectors of ten segments of the voice sample."""

    kind = "rawnet3"

    @property
    def width(self) -> int:
        return self.cfg.embedding

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> None:
        """It looks at nothing."""

    def example(self, footage: Footage) -> np.ndarray:
        """float32 [segments, samples]."""
        if footage.voice_sample is None:
            return np.zeros((0, rawnet3.SEGMENT), np.float32)
        assert footage.spec.sampling_rate == rawnet3.SAMPLING_RATE
        return rawnet3.segments(footage.voice_sample)

    def features(self, examples: Sequence[np.ndarray], spec: ClipSpec) -> list[np.ndarray]:
        del spec
        vectors = self._row_by_row(examples)
        return [x.mean(axis=0) if len(x) else np.zeros(0, np.float32) for x in vectors]


ENCODERS: dict[str, type[Frozen]] = {
    "visual": ClipVision,
    "sync": Synchformer,
    "lips": AVHubert,
    "speaker": RawNet3,
}
"""Stream -> its encoder in the paper, whose kind names the folder of its weights."""


def encoder(stream: str, path: Path, dtype: str = "float32") -> Frozen:
    """The paper's encoder of a stream, with weights from a folder or file.

    Raises:
      UserError: there are none, or they are of another network.
    """
    make = ENCODERS[stream]
    return make(path, published.config(make.kind, path), dtype)


def streams(weights: str) -> set[str]:
    """The streams for which there are weights in a folder of folders, `WEIGHTS/clip` and so on."""
    made = ENCODERS.items() if weights else ()
    return {name for name, make in made if as_path(weights, make.kind).exists()}


def of_folder(weights: Path, dtype: str = "float32") -> dict[str, Frozen]:
    """The encoders whose weights are in a folder of folders.

    Raises:
      UserError: there is no such folder, or none of theirs in it.
    """
    there = streams(str(weights))
    if not there:
        known = ", ".join(make.kind for make in ENCODERS.values())
        raise UserError(f"{weights}: holds none of the folders {known} (docs/weights.md)")
    return {
        name: encoder(name, weights / make.kind, dtype)
        for name, make in ENCODERS.items()
        if name in there
    }
