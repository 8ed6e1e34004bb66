"""When each phoneme is spoken: where a dataset takes it from."""

import dataclasses
import json
from collections.abc import Mapping, Sequence

import numpy as np

from vssflow_jax.clip import stretch_phonemes
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

DURATIONS = ("uniform", "aligned", "predicted")
PREDICT = "write one with python run_duration.py --predict=FILE"


@dataclasses.dataclass(frozen=True)
class Durations:
    """Where it is known from how long each phoneme lasts.

    Attributes:
      kind: one of `DURATIONS`: all alike, by the dataset's own alignment, or by a file that
        `run_duration.py` wrote.
      path: path of that file.
      predicted: what it says, latent frames of each phoneme by clip id.
    """

    kind: str = "uniform"
    path: str = ""
    predicted: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, kind: str, path: str) -> "Durations":
        """Durations of this kind, from the file if they are predicted ones.

        Raises:
          UserError: the file is not one of durations.
        """
        assert kind in DURATIONS, f"unknown durations {kind}"
        if kind != "predicted":
            return cls(kind)
        try:
            return cls(kind, path, dict(json.loads(as_path(path).read_bytes())))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"data.durations_path is '{path}', no file of durations; {PREDICT}"
            ) from error

    def spread(
        self, ids: np.ndarray, aligned: np.ndarray, num_frames: int, clip_id: str, where: str
    ) -> np.ndarray:
        """The phoneme id of each latent frame.

        Args:
          ids: phonemes of the clip [p].
          aligned: how many frames each lasts [p] by the dataset, or none.
          num_frames: latent frames of the clip.
          clip_id: its name.
          where: start of what is said when something is wrong.

        Raises:
          UserError: nothing is known of the clip, or it is of other phonemes or frames.
        """
        if not len(ids):
            return ids
        if self.kind == "uniform":
            return stretch_phonemes(ids, num_frames)
        if self.kind == "aligned":
            frames = aligned
            source = "the dataset, as the demo set alone has them; set data.durations=uniform"
        else:
            frames = np.array(self.predicted.get(clip_id, ()), np.int32)
            source = f"{self.path}; {PREDICT}"
        if not len(frames):
            raise UserError(f"{where} ({clip_id}): no durations in {source}")
        if len(frames) != len(ids) or frames.sum() != num_frames:
            raise UserError(
                f"{where} ({clip_id}): it has {len(ids)} phonemes and {num_frames} frames, but "
                f"{len(frames)} phonemes last {frames.sum()} frames in {source}"
            )
        return np.repeat(ids, frames)
