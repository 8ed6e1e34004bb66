"""One clip as the model is told of it."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from vssflow_jax.clip import to_float


@dataclasses.dataclass(frozen=True)
class ClipFeatures:
    """What is known of one clip.

    Attributes:
      streams: features by the name of their stream (`vssflow_jax.input_pipeline.streams`), each at
        its own rate [frames, width]; an absent one has no frames. A voice is [width], zeros when
        there is none.
      phonemes: a phoneme id for each latent frame [frames], 25/s, 0 where there is none.
      sound: [samples], int16 as recorded, or float32 of a mix.
      duration_sec: duration of the clip itself, before any padding to the window.
    """

    streams: Mapping[str, np.ndarray]
    phonemes: np.ndarray
    sound: np.ndarray
    duration_sec: float

    @property
    def waveform(self) -> np.ndarray:
        """The sound as float32 [samples]."""
        return to_float(self.sound)


@dataclasses.dataclass(frozen=True)
class Clip:
    """One decoded record: the features of a clip and what evaluation needs to know of it.

    `phoneme_ids` int32 [p] are those of the transcript, `phoneme_frames` int32 [p] how many latent
    frames each of them lasts; the latter is empty where the dataset does not know. `posterior`
    float32 [t, 2 c] is what a codec knows of the latents of the padded sound, means and
    log-variances; it has no frames where that was not computed. `caption` says in words what is to
    be heard; it is empty where nobody says so.
    """

    clip_id: str
    task: str
    transcript: str
    voice: str
    event_times_sec: np.ndarray
    video: str
    caption: str
    phoneme_ids: np.ndarray
    phoneme_frames: np.ndarray
    posterior: np.ndarray
    features: ClipFeatures
