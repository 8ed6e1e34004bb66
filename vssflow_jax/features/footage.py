"""What encoders see and hear of a clip, and the interface of an encoder."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from vssflow_jax.clip import ClipSpec
from vssflow_jax.input_pipeline.records import on_disk
from vssflow_jax.media import Track, View, blocks

Box = tuple[int, int, int, int]
Mouth = Box | Sequence[Box]
"""Where a mouth is, in every picture or in each by itself; then the boxes are of one size."""


class Look(NamedTuple):
    """How an encoder looks at a video: block by block, for no clip is ever held whole.

    Attributes:
      view: the pictures that it gets, black after the end of the video.
      keep: of pictures uint8 [n, h, w, 3] and the one before them [h, w, 3] (the first one at the
        start) what it keeps for its features, [n, ...].
    """

    view: View
    keep: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Footage:
    """What encoders make features of, of one clip.

    Attributes:
      clip_id: its name.
      spec: geometry of the clips.
      duration_sec: duration of the clip itself.
      kept: what each encoder that looks at pictures has kept of them, [rate * window, ...].
      voice: name of the speaker, empty without one.
      voice_sample: float32 [samples] at `spec.sampling_rate`; None without one.
    """

    clip_id: str
    spec: ClipSpec
    duration_sec: float
    kept: Mapping["Encoder", np.ndarray]
    voice: str = ""
    voice_sample: np.ndarray | None = None


class Encoder(Protocol):
    """Makes one stream of features of a clip. It is a value: equal ones make equal features."""

    @property
    def width(self) -> int: ...

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> Look | None:
        """How it looks at a video, if at all.

        Args:
          spec: geometry of the clips.
          mouth: where the mouth is, (x0, y0, x1, y1) in pixels of the picture as it is shown, or
            such a box for each of the video's pictures at the video rate; None if that is not
            known.
        """
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
    """One encoder for each stream of features, by its name."""

    by_stream: Mapping[str, Encoder]

    def __getitem__(self, stream: str) -> Encoder:
        return self.by_stream[stream]

    def __repr__(self) -> str:
        """By the names of a dataset, whose metadata holds it."""
        named = (f"{on_disk(name)}={encoder!r}" for name, encoder in self.by_stream.items())
        return f"Encoders({', '.join(named)})"

    def of(self, streams: Iterable[str]) -> "Encoders":
        """Those of some of the streams."""
        return Encoders({name: self[name] for name in streams})

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each stream."""
        return {name: encoder.width for name, encoder in self.by_stream.items()}

    def need_mouth(self, spec: ClipSpec) -> bool:
        """Whether a stream is there only where it is known where the mouth is."""
        return any(
            encoder.look(spec, None) is None and encoder.look(spec, (0, 0, 1, 1)) is not None
            for encoder in self.by_stream.values()
        )

    def watch(
        self,
        track: Track,
        spec: ClipSpec,
        mouth: Mouth | None,
        tick: Callable[[int], object] = lambda _: None,
    ) -> dict[Encoder, np.ndarray]:
        """What they keep of a clip that is the start of a video.

        Args:
          track: track of the video, which is decoded once for all of them.
          spec: geometry of the clip.
          mouth: where the mouth is, in pixels of the picture as it is shown, if that is known.
          tick: is told how many frames more have been read.

        Raises:
          UserError: the video cannot be decoded.
          Rejected: the mouth is not in the picture.
        """
        looks: dict[Encoder, Look] = {}
        for encoder in self.by_stream.values():
            if look := encoder.look(spec, mouth):
                looks[encoder] = look
        kept: dict[Encoder, list[np.ndarray]] = {encoder: [] for encoder in looks}
        before: dict[View, np.ndarray] = {}
        counts = {look.view: round(look.view.rate * spec.duration_sec) for look in looks.values()}
        for view, pictures in blocks(track, counts, tick) if counts else ():
            for encoder, look in looks.items():
                if look.view == view:
                    kept[encoder].append(look.keep(pictures, before.get(view, pictures[0])))
            before[view] = pictures[-1].copy()  # It must not keep the whole block.
        return {encoder: np.concatenate(parts) for encoder, parts in kept.items()}

    def __call__(self, footage: Footage) -> dict[str, np.ndarray]:
        """Every stream of a clip, by name."""
        return {name: encoder(footage) for name, encoder in self.by_stream.items()}
