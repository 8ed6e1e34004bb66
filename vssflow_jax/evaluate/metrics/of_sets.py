"""What is measured of all clips together, by features: distances of distributions, and the like.

Features of the mel are at hand. Those of networks lie in folders as av-benchmark writes them,
made there or by `vssflow_jax.evaluate.networks`.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.evaluate.metrics.classes import inception_scores, kl_softmax
from vssflow_jax.evaluate.metrics.fd import (
    MIN_ROWS_TO_EXTRAPOLATE,
    frechet_distance,
    frechet_distance_at_infinity,
)
from vssflow_jax.evaluate.networks import synchformer
from vssflow_jax.evaluate.networks.files import Backbones, Cache, Clips, read
from vssflow_jax.evaluate.networks.judge import how_to_name
from vssflow_jax.evaluate.networks.judges import JUDGES
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.networks import syncnet
from vssflow_jax.utils.errors import UserError

_DOCS: Final = "docs/evaluation_networks.md"
_BATCH_CLIPS: Final = 16  # that Synchformer's head compares at a time
_CLIP_NAME_LENGTH: Final = len("zxpo56cpUBU_000007")  # VGGSound: a video's id and a time in seconds
_CLIP_NAME_START: Final = {
    len("000000014_zxpo56cpUBU_000007-0"): len("000000014_"),
    len("zxpo56cpUBU_000007-0"): 0,
    len("Yzxpo56cpUBU_000007_0"): len("Y"),
}
_MIN_NORM: Final = 1e-8  # as in torch.cosine_similarity: a vector of zeros is similar to nothing

Pairing = Literal["", "exact", "clean"]


@dataclasses.dataclass(frozen=True)
class OfSet:
    """A score of all clips together.

    Attributes:
      value: the score.
      more: what else `metrics.json` has of it: "warning", why it is to be trusted less, and
        "infinity", its value at infinitely many rows, with "r_squared" of that.
    """

    value: float
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, score: "float | OfSet") -> "OfSet":
        """A score that may be a number."""
        return score if isinstance(score, OfSet) else cls(float(score))


OfRows = Callable[[Sequence[Row], Sequence[str]], Mapping[str, float | OfSet]]
"""Of the rows of all clips, and the versions: version -> score."""


@dataclasses.dataclass(frozen=True)
class OfFeatures:
    """How features in folders become a score.

    Attributes:
      generated: features of the generated sounds.
      reference: features of the references; None if they are not needed.
      score: of the former, the latter and `further`: one number or `OfSet` of all clips, or one
        number of each [n], NaN where a clip is not fit for it; and of the head of the network, if
        one is needed.
      paired: whether only clips that find their reference count, by equal names ("exact") or by
        those that av-benchmark makes of them ("clean"), and each with its own; "" for all.
      network: name of a network that is needed beside the features; "" for none.
      further: more features of the references, by the same network.
      unfit: why a clip may not be fit for it.
    """

    generated: Cache
    reference: Cache | None
    score: Callable[..., Any]
    paired: Pairing = ""
    network: str = ""
    further: tuple[Cache, ...] = ()
    unfit: str = ""

    @property
    def of_truth(self) -> bool:
        """Whether a true sound has it, which is not its own reference."""
        return self.reference is None or self.reference.judge != self.generated.judge

    def measure(
        self,
        generated_dir: Path,
        reference_dir: Path,
        backbones: Backbones,
        only: Collection[str] | None = None,
    ) -> tuple[OfSet | dict[str, float], int]:
        """The score of all clips, or name of a generated clip -> its own, NaN if it is not fit.

        Args:
          generated_dir: features of the generated sounds, or of those to measure in their place.
          reference_dir: features of the reference sounds and videos.
          backbones: networks that are at hand; only "synchformer" matters.
          only: names of the generated clips that count; None: all that have features.

        Returns:
          The score, and of how many clips it is.

        Raises:
          UserError: a file or a network is missing, and how to get it; a file is damaged or of
            other features; no clips in common; too few for the score; a value that is not finite;
            torch is not installed.
        """
        if self.network and self.network not in backbones:
            raise UserError(
                f"the weights of {self.network} compare its features: "
                f"{how_to_name(JUDGES[self.generated.judge])} ({_DOCS})"
            )
        for directory, cache in ((generated_dir, self.generated), (reference_dir, self.reference)):
            if cache and not cache.there(directory):
                raise UserError(_how_to_get(cache, directory))
        generated = read(generated_dir, self.generated)
        reference = read(reference_dir, self.reference) if self.reference else {}
        further = [read(reference_dir, cache) for cache in self.further]
        heads = [synchformer.load(backbones[self.network])] if self.network else []
        if only is not None:
            generated = Renamed(generated, {name: name for name in generated if name in only})
        if not generated or (self.reference and not reference):
            raise UserError(
                f"{generated_dir} and {reference_dir}: no clip is fit for it; metrics.json says of "
                "each why, under problems"
            )
        try:
            if self.paired:
                pairs = pair_by_name(reference, generated, clean=self.paired == "clean")
                generated = Renamed(generated, {name: name for name in pairs})
                reference = Renamed(reference, pairs)
                further = [Renamed(clips, pairs) for clips in further]
            score = self.score(generated, reference, *further, *heads)
        except UserError as error:
            raise UserError(f"{generated_dir} and {reference_dir}: {error}") from error
        if isinstance(score, OfSet) or np.ndim(score) == 0:
            return OfSet.of(score), len(generated)
        return dict(zip(generated, score.tolist(), strict=True)), len(generated)


@dataclasses.dataclass(frozen=True)
class Renamed(Mapping[str, NDArray[np.float32]]):
    """Some of the clips under other names, read when they are asked for.

    Attributes:
      clips: the clips.
      names: name -> name among the clips.
    """

    clips: Clips
    names: Mapping[str, str]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.clips[self.names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _how_to_get(cache: Cache, directory: Path) -> str:
    """What to do where features are not in a folder."""
    judge = JUDGES.get(cache.judge)
    ways = [
        *([how_to_name(judge)] if judge else []),
        *([f"extract {cache.file} with av-benchmark"] if cache.file else []),
    ]
    return f"no features by {cache.judge} in {directory}: {', or '.join(ways)} ({_DOCS})"


def distance(generated: Clips, reference: Clips) -> OfSet:
    """Of all windows, where a clip has several."""
    return distance_of_rows(_rows(generated), _rows(reference))


def distance_of_rows(generated: NDArray[np.floating], reference: NDArray[np.floating]) -> OfSet:
    """The Frechet distance; where rows are few, extrapolated too, with a warning.

    Few are fewer than a row has numbers: a covariance of them is singular, and lacks what the true
    one has in the directions that are missing.

    Args:
      generated: features [n, d].
      reference: features [m, d].

    Raises:
      UserError: fewer than two rows.
    """
    value = frechet_distance(generated, reference)
    count, width = min(len(generated), len(reference)), generated.shape[1]
    if count >= width:
        return OfSet(value)
    warning = (
        f"{count:,} rows of features are fewer than the {width:,} numbers of each, so that the "
        "distance is too large; compare it with those of as many clips only"
    )
    if len(generated) < MIN_ROWS_TO_EXTRAPOLATE:
        return OfSet(value, {"warning": warning})
    infinity, r_squared = frechet_distance_at_infinity(generated, reference)
    return OfSet(value, {"infinity": infinity, "r_squared": r_squared, "warning": warning})


def divergence(generated: Clips, reference: Clips) -> NDArray[np.float64]:
    return kl_softmax(_rows(reference), _rows(generated))


def inception(generated: Clips, reference: Clips) -> float:
    del reference
    return float(inception_scores(_rows(generated)).mean())


def similarity(generated: Clips, reference: Clips) -> NDArray[np.float64]:
    """The cosine of each clip and its reference [n].

    Raises:
      UserError: they are not of the same network.
    """
    ours, theirs = _rows(generated), _rows(reference)
    if ours.shape != theirs.shape:
        raise UserError(
            f"features are of {ours.shape[1]} and of {theirs.shape[1]} numbers; extract both again "
            "with the same weights"
        )
    return cosine_similarity(theirs, ours)


def synchrony(generated: Clips, reference: Clips, head: synchformer.Head) -> NDArray[np.float64]:
    """DeSync of each clip [n], of the first and the last window of both; NaN without any."""
    ends = {name: min(len(reference[name]), len(sound)) for name, sound in generated.items()}
    fit = [name for name, end in ends.items() if end >= synchformer.SEGMENTS]
    found = dict.fromkeys(ends, np.nan)
    for start in range(0, len(fit), _BATCH_CLIPS):
        batch = fit[start : start + _BATCH_CLIPS]
        seen, heard = (
            [clips[name][: ends[name]] for name in batch] for clips in (reference, generated)
        )
        first, last = (
            head(np.stack([x[window] for x in seen]), np.stack([x[window] for x in heard]))
            for window in (slice(synchformer.SEGMENTS), slice(-synchformer.SEGMENTS, None))
        )
        _check_finite(dict(zip(batch, first + last, strict=True)))
        found |= zip(batch, synchformer.desync(first, last).tolist(), strict=True)
    return np.array([*found.values()])


def lip_sync(
    generated: Clips, reference: Clips, first: Clips, *, of: Literal["confidence", "distance"]
) -> NDArray[np.float64]:
    """A part of what SyncNet says of each clip [n]; NaN where it is silent beside the face."""
    found = (
        _lip_sync(name, heard, reference[name], int(first[name]))
        for name, heard in generated.items()
    )
    return np.array([np.nan if one is None else getattr(one, of) for one in found])


def _lip_sync(
    name: str, heard: NDArray[np.float32], seen: NDArray[np.float32], first: int
) -> syncnet.Synchrony | None:
    """Of features of a sound, and of those of a face from a window of the video on."""
    _check_finite({name: heard})
    _check_finite({name: seen})
    beside = heard[first : first + len(seen)]
    return syncnet.synchrony(seen[: len(beside)], beside) if len(beside) else None


def opinion(generated: Clips, reference: Clips) -> NDArray[np.float64]:
    del reference
    return _rows(generated)[:, 0].astype(np.float64)


def _rows(clips: Clips) -> NDArray[np.float32]:
    _check_finite(clips)
    return np.concatenate([np.atleast_2d(features) for features in clips.values()])


def _check_finite(clips: Clips) -> None:
    for name, features in clips.items():
        if not np.isfinite(features).all():
            raise UserError(f"clip '{name}' has a value that is not finite; extract it again")


def cosine_similarity(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of the angle between each two embeddings; of videos and sounds, the ImageBind score.

    Args:
      a: [n, d], of any length.
      b: [n, d].

    Returns:
      -1 to 1 for each pair [n]; their mean is the published score.
    """
    return np.sum(_unit(a) * _unit(b), axis=1)


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    return exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), _MIN_NORM)


def pair_by_name(
    references: Collection[str], generated: Collection[str], clean: bool = False
) -> dict[str, str]:
    """Name of a generated clip -> that of its reference; those without one are left out.

    Args:
      references: names of the references.
      generated: names of the generated clips; several may be of one reference if they are cleaned.
      clean: read the generated names by `clean_sample_name`, unless a reference is called so.

    Raises:
      UserError: no clip finds its reference.
    """
    there = set(references)
    sought = {
        name: clean_sample_name(name) if clean and name not in there else name for name in generated
    }
    pairs = {name: reference for name, reference in sought.items() if reference in there}
    if not pairs:
        raise UserError(
            f"pairs by name: none of {len(generated)} generated clips is called like one of "
            f"{len(references)} references"
        )
    return pairs


def clean_sample_name(name: str) -> str:
    """The VGGSound clip in the name of a generated sample; names of other lengths stay."""
    start = _CLIP_NAME_START.get(len(name))
    return name if start is None else name[start : start + _CLIP_NAME_LENGTH]


def mel_statistics(log_mel: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean and standard deviation over time of each mel band [2 m], of a log-mel [n, m]."""
    exact = log_mel.astype(np.float64)
    return np.concatenate([exact.mean(axis=0), exact.std(axis=0)])


def mel_distances(rows: Sequence[Row], versions: Sequence[str]) -> Mapping[str, OfSet]:
    """Frechet distance of each version's mel statistics from those of the true sounds.

    It needs no network, and follows the colour and the dynamics of the sounds, not what they are
    of. No published figure is of it; it compares runs with one another.
    """
    features = {
        version: np.array([row.mel_statistics[version] for row in rows]) for version in versions
    }
    truth = features["ground_truth"]
    return {
        version: OfSet(frechet_distance(values, truth))
        if version == "ground_truth"  # which is no sample of anything, but the same
        else distance_of_rows(values, truth)
        for version, values in features.items()
    }
