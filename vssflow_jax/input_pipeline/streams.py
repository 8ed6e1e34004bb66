"""The streams of features that a clip can have. Another one is an entry here (`docs/extending.md`).

A stream is what an extractor makes of the picture or of the voice. Phonemes are none: they are made
of the transcript.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from vssflow_jax.clip import ClipSpec, nearest, nearest_exact


@dataclasses.dataclass(frozen=True)
class Stream:
    """All that sets one stream apart from the others (REFERENCE sections 3 and 6).

    Attributes:
      title: what it tells of a clip, in a few words.
      width: channels of the paper's extractor, and of feature files.
      rate: frames a second, for a geometry of clips; None for one vector of a voice.
      stretch: from the numbers of frames there are and wanted to the source of each, for a stream
        that covers the window (`vssflow_jax.clip.nearest`); None for one that lasts as long as the
        clip, at the rate of the latent, and is cut or padded with zeros.
      joint: what a clip made of a sound and a speech has: both "mixed" as its mode says, that of
        the speech "delayed" to its start, or that of the "speech" as it is.
      pictured: whether it is of the picture, which a TTS clip does not have.
      masked: whether `train.mask_ratios` hide frames of it.
      dtype: dtype in records and batches.
      on_disk: its name in datasets and folders of features, if that is another.
      windowed: frames of a window where those of a feature file may lie in windows, [windows,
        frames, width]; 0 where they may not.
      encoder: makes it (`vssflow_jax.features.footage.Encoder`) where no flag and no file does.
    """

    title: str
    width: int
    rate: Callable[[ClipSpec], float] | None
    stretch: Callable[[int, int], np.ndarray] | None = nearest
    joint: Literal["mixed", "delayed", "speech"] = "mixed"
    pictured: bool = True
    masked: bool = False
    dtype: str = "<f2"
    on_disk: str = ""
    windowed: int = 0
    encoder: Any = None

    def frames(self, spec: ClipSpec) -> int:
        """Frames of a stream that covers the window."""
        assert self.rate, f"{self.title}: one vector has no frames"
        return round(spec.duration_sec * self.rate(spec))

    def absent(self, width: int) -> np.ndarray:
        """What a clip has that is without: no frames [0, width], or zeros for a voice [width]."""
        return np.zeros((0, width) if self.rate else width, self.dtype)


STREAMS: dict[str, Stream] = {
    "visual": Stream(
        "semantic video",
        width=768,
        rate=lambda spec: spec.visual_rate,
        on_disk="clip",
    ),
    "sync": Stream(
        "motion",
        width=768,
        rate=lambda spec: spec.sync_rate,
        stretch=nearest_exact,
        masked=True,
        on_disk="synch",
        windowed=8,  # as Synchformer makes them
    ),
    "lips": Stream(
        "lips",
        width=1024,
        rate=lambda spec: spec.video_rate,
        stretch=None,
        joint="delayed",
        masked=True,
    ),
    "speaker": Stream(
        "speaker",
        width=256,
        rate=None,
        stretch=None,
        joint="speech",
        pictured=False,
        dtype="<f4",
    ),
}
"""Name in code, configs and flags -> stream."""


def maskable(names: Iterable[str]) -> list[str]:
    """Those of the conditions of which frames can be hidden, in the order of the draws for it."""
    return sorted(name for name in names if name in STREAMS and STREAMS[name].masked)
