"""What is measured of all clips together, by features: distances of distributions, and the like.

Features of the mel are at hand. Those of networks lie in folders as av-benchmark writes them,
made there or by `vssflow_jax.evaluate.networks`.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.evaluate.metrics.classes import inception_score, kl_softmax
from vssflow_jax.evaluate.metrics.fd import frechet_distance
from vssflow_jax.evaluate.metrics.pairing import pair_by_name
from vssflow_jax.evaluate.metrics.similarity import cosine_similarity
from vssflow_jax.evaluate.metrics.synchrony import desync
from vssflow_jax.evaluate.networks import synchformer
from vssflow_jax.evaluate.networks.files import (
    Backbones,
    Cache,
    Clips,
    read,
)
from vssflow_jax.evaluate.networks.weights import EXTRA
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError

_DOCS: Final = "docs/evaluation_networks.md"
_BATCH_CLIPS: Final = 16  # that Synchformer's head compares at a time
_NO_BACKBONES: Final[Backbones] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Score:
    """Of all clips together.

    Attributes:
      value: the score.
      per_clip: name of a generated clip -> its own, where the score is their mean; else none.
    """

    value: float
    per_clip: Mapping[str, float] = dataclasses.field(default_factory=dict)


OfRows = Callable[[Sequence[Row], Sequence[str]], Mapping[str, float]]
"""Of the rows of all clips, and the versions: version -> score."""


@dataclasses.dataclass(frozen=True)
class OfFeatures:
    """How features in folders become a score.

    Attributes:
      generated: features of the generated sounds.
      reference: features of the references; None if they are not needed.
      score: of the former, the latter, and the networks.
      network: name of a network that is needed beside the features; "" for none.
    """

    generated: Cache
    reference: Cache | None
    score: Callable[[Clips, Clips, Backbones], Score]
    network: str = ""

    def absence(
        self,
        generated_dir: Path | None = None,
        reference_dir: Path | None = None,
        backbones: Backbones = _NO_BACKBONES,
    ) -> str:
        """What it lacks and how to get that, or ""; arguments as in `measure`."""
        if self.network and self.network not in backbones:
            return (
                f"the weights of {self.network} compare its features: name their file by "
                f"--config.eval.backbones.{self.network} ({_DOCS})"
            )
        if not importlib.util.find_spec("torch"):
            return (
                f"the package torch, which reads features, is missing: pip install -e '.[{EXTRA}]'"
            )
        sides = (
            ("generated", generated_dir, self.generated),
            ("reference", reference_dir, self.reference),
        )
        for side, directory, cache in sides:
            if cache and not (directory and (directory / cache.file).is_file()):
                where = directory or f"the folder --config.eval.features.{side}"
                own = f"name --config.eval.backbones.{cache.network}, or " if cache.network else ""
                return f"no {cache.file} in {where}: {own}extract it with av-benchmark ({_DOCS})"
        return ""

    def measure(
        self, generated_dir: Path, reference_dir: Path, backbones: Backbones = _NO_BACKBONES
    ) -> Score:
        """The score.

        Args:
          generated_dir: features of the generated sounds.
          reference_dir: features of the reference sounds and videos.
          backbones: networks that are at hand; only "synchformer" matters.

        Raises:
          UserError: a file is missing, damaged or of other features; no clips in common; too few
            for the score; a value that is not finite; torch is not installed.
        """
        generated = read(generated_dir, self.generated)
        reference = read(reference_dir, self.reference) if self.reference else {}
        try:
            return self.score(generated, reference, backbones)
        except UserError as error:
            raise UserError(f"{generated_dir} and {reference_dir}: {error}") from error


def _mean(per_clip: Mapping[str, float]) -> Score:
    return Score(float(np.mean(list(per_clip.values()))), per_clip)


def _paired(
    generated: Clips, reference: Clips, clean: bool = True
) -> tuple[list[str], list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Names of the generated clips that have a reference, their features, and the references'."""
    names, reference_names = list(generated), list(reference)
    of_reference, of_generated = pair_by_name(reference_names, names, clean)
    paired = [names[i] for i in of_generated]
    return (
        paired,
        [generated[name] for name in paired],
        [reference[reference_names[i]] for i in of_reference],
    )


def distance(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
    """Of all clips, paired or not; of all windows, where a clip has several."""
    del backbones
    return Score(frechet_distance(*(_rows(clips) for clips in (generated, reference))))


def _rows(clips: Clips) -> NDArray[np.float32]:
    return np.concatenate([np.atleast_2d(features) for features in clips.values()])


def paired_distance(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
    del backbones
    _, of_generated, of_reference = _paired(generated, reference)
    return Score(frechet_distance(np.stack(of_generated), np.stack(of_reference)))


def divergence(clean: bool) -> Callable[[Clips, Clips, Backbones], Score]:
    def score(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
        del backbones
        names, of_generated, of_reference = _paired(generated, reference, clean)
        values = kl_softmax(np.stack(of_reference), np.stack(of_generated))
        return _mean(dict(zip(names, values.tolist(), strict=True)))

    return score


def inception(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
    del reference, backbones
    return Score(inception_score(_rows(generated)))


def paired_inception(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
    del backbones
    return Score(inception_score(np.stack(_paired(generated, reference)[1])))


def similarity(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
    del backbones
    names, sounds, videos = _paired(generated, reference)
    values = cosine_similarity(np.stack(videos), np.stack(sounds))
    return _mean(dict(zip(names, values.tolist(), strict=True)))


def synchrony(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
    head = synchformer.load(backbones["synchformer"])
    names, sounds, videos = _paired(generated, reference)
    for name, *features in zip(names, sounds, videos, strict=True):
        if min(map(len, features)) < synchformer.SEGMENTS:
            raise UserError(
                f"clip '{name}' is shorter than {synchformer.SEGMENTS} segments (4.8 s); leave it "
                "out of both"
            )
    values: list[float] = []
    for start in range(0, len(names), _BATCH_CLIPS):
        batch = slice(start, start + _BATCH_CLIPS)
        windows = (slice(None, synchformer.SEGMENTS), slice(-synchformer.SEGMENTS, None))
        first, last = (
            head(
                np.stack([video[window] for video in videos[batch]]),
                np.stack([sound[window] for sound in sounds[batch]]),
            )
            for window in windows
        )
        values += desync(first, last).tolist()
    return _mean(dict(zip(names, values, strict=True)))


def mel_distances(rows: Sequence[Row], versions: Sequence[str]) -> Mapping[str, float]:
    """Frechet distance of each version's mel statistics from those of the true sounds."""
    features = {
        version: np.array([row.mel_statistics[version] for row in rows]) for version in versions
    }
    return {
        version: frechet_distance(values, features["ground_truth"])
        for version, values in features.items()
    }
