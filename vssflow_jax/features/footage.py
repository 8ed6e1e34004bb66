"""What encoders see and hear of a clip, and the interface of an encoder."""

import abc
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from vssflow_jax.clip import ClipSpec
from vssflow_jax.input_pipeline.records import on_disk
from vssflow_jax.media import Track, View, blocks

Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Landmarks:
    """The points of a face in each picture of a video (`vssflow_jax.features.landmarks`).

    Attributes:
      points: complex [n, 25], x + iy in pixels; None where no picture shows a face.
    """

    points: np.ndarray | None


Mouth = Box | Sequence[Box] | Landmarks
"""Where a mouth is: one box for all pictures, or one of the same size or points of a face for each.
"""


class Found(Protocol):
    """What looking for a mouth in a video has found."""

    @property
    def mouth(self) -> Mouth: ...

    def remark(self) -> str:
        """What became of the pictures, in a line."""
        ...


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
      source_sec: duration of what the clip is the beginning of; 0: it is all of it.
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
    source_sec: float = 0.0


class Encoder(Protocol):
    """Makes one stream of features of a clip. It is a value: equal ones make equal features."""

    @property
    def width(self) -> int: ...

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> Look | None:
        """How it looks at a video, if at all.

        Args:
          spec: geometry of the clips.
          mouth: where the mouth is, (x0, y0, x1, y1) in pixels of the picture as it is shown, or
            what the `LipReader` among the encoders has found; None if that is not known, and where
            nobody speaks.
        """
        ...

    def __call__(self, footage: Footage) -> np.ndarray:
        """Float features at the encoder's own rate [frames, width], or [width] of a voice; empty
        where the clip has nothing to make them of.

        Raises:
          Rejected: what the clip brings is bad.
        """
        ...


class LipReader(abc.ABC):
    """An encoder of mouths, which knows how to find them."""

    @abc.abstractmethod
    def check_installed(self) -> None:
        """Checks that the packages that find mouths are installed.

        Raises:
          UserError: they are not.
        """

    @abc.abstractmethod
    def find_mouth(
        self, track: Track, spec: ClipSpec, tick: Callable[[int], object] = lambda _: None
    ) -> Found | None:
        """Where the mouth is, for each of the video's pictures at the video rate; None if nowhere.

        Args:
          track: track of the video; it is decoded once.
          spec: geometry of the clip that is its start.
          tick: is told how many frames more have been read.

        Raises:
          UserError: the video cannot be decoded, or a package is not installed.
        """


class Network(abc.ABC):
    """An encoder in two halves: processes make examples of clips, and a network looks at many.

    Examples travel between processes, so they are small: bytes of pictures at the network's size.
    """

    @property
    @abc.abstractmethod
    def width(self) -> int: ...

    @abc.abstractmethod
    def look(self, spec: ClipSpec, mouth: Mouth | None) -> Look | None:
        """See `Encoder`."""

    @abc.abstractmethod
    def example(self, footage: Footage) -> np.ndarray:
        """What the network is to look at, of one clip; without rows where there is nothing.

        Raises:
          Rejected: what the clip brings is bad.
        """

    @abc.abstractmethod
    def features(self, examples: Sequence[np.ndarray], spec: ClipSpec) -> list[np.ndarray]:
        """The features of clips by their examples, on all local devices; as `Encoder` has them."""

    @property
    def grid(self) -> int:
        """Pieces of a video that are to have the same features where they overlap begin so many
        video frames apart, or multiples of it."""
        return 1

    def __call__(self, footage: Footage) -> np.ndarray:
        """See `Encoder`."""
        return self.features([self.example(footage)], footage.spec)[0]


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

    @property
    def lip_reader(self) -> LipReader | None:
        """The encoder that needs to know where the mouth is, if there is one."""
        readers = (x for x in self.by_stream.values() if isinstance(x, LipReader))
        return next(readers, None)

    @property
    def networks(self) -> "Encoders":
        """Those that are networks."""
        return self.of(name for name, x in self.by_stream.items() if isinstance(x, Network))

    @property
    def grid(self) -> int:
        """See `Network`."""
        found = (x.grid for x in self.by_stream.values() if isinstance(x, Network))
        return math.lcm(*found)

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

    def prepare(self, footage: Footage) -> dict[str, np.ndarray]:
        """Every stream of a clip, by name; in place of those of networks their examples."""
        return {
            name: encoder.example(footage) if isinstance(encoder, Network) else encoder(footage)
            for name, encoder in self.by_stream.items()
        }

    def finish(
        self, clips: Sequence[Mapping[str, np.ndarray]], spec: ClipSpec
    ) -> list[dict[str, np.ndarray]]:
        """Every stream of several clips, by name, from what `prepare` made of each."""
        made = {
            name: encoder.features([clip[name] for clip in clips], spec)
            for name, encoder in self.by_stream.items()
            if isinstance(encoder, Network)
        }
        return [
            {name: made[name][number] if name in made else clip[name] for name in self.by_stream}
            for number, clip in enumerate(clips)
        ]
