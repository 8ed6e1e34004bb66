"""What is measured of all clips together, by features: distances of distributions, and the like.

Features of the mel are at hand. Those of networks lie in folders as av-benchmark writes them,
made there or by `vssflow_jax.evaluate.networks`.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.evaluate.metrics.classes import inception_scores, kl_softmax
from vssflow_jax.evaluate.metrics.fd import frechet_distance
from vssflow_jax.evaluate.networks import synchformer
from vssflow_jax.evaluate.networks.files import Backbones, Cache, Clips, read
from vssflow_jax.evaluate.rows import Row
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
OfRows = Callable[[Sequence[Row], Sequence[str]], Mapping[str, float]]
"""Of the rows of all clips, and the versions: version -> score."""


@dataclasses.dataclass(frozen=True)
class OfFeatures:
    """How features in folders become a score.

    Attributes:
      generated: features of the generated sounds.
      reference: features of the references; None if they are not needed.
      score: of the former and the latter: one number of all clips, or one of each [n], whose mean
        is the score; and of the head of the network, if one is needed.
      paired: whether only clips that find their reference count, by equal names ("exact") or by
        those that av-benchmark makes of them ("clean"), and each with its own; "" for all.
      network: name of a network that is needed beside the features; "" for none.
    """

    generated: Cache
    reference: Cache | None
    score: Callable[..., Any]
    paired: Pairing = ""
    network: str = ""

    def measure(
        self, generated_dir: Path, reference_dir: Path, backbones: Backbones
    ) -> float | dict[str, float]:
        """The score of all clips, or name of a generated clip -> its own.

        Args:
          generated_dir: features of the generated sounds.
          reference_dir: features of the reference sounds and videos.
          backbones: networks that are at hand; only "synchformer" matters.

        Raises:
          UserError: a file or a network is missing, and how to get it; a file is damaged or of
            other features; no clips in common; too few for the score; a value that is not finite;
            torch is not installed.
        """
        if self.network and self.network not in backbones:
            raise UserError(
                f"the weights of {self.network} compare its features: name their file by "
                f"--config.eval.backbones.{self.network} ({_DOCS})"
            )
        for directory, cache in ((generated_dir, self.generated), (reference_dir, self.reference)):
            if cache and not (directory / cache.file).is_file():
                own = f"name --config.eval.backbones.{cache.network}, or " if cache.network else ""
                raise UserError(
                    f"no {cache.file} in {directory}: {own}extract it with av-benchmark ({_DOCS})"
                )
        generated = read(generated_dir, self.generated)
        reference = read(reference_dir, self.reference) if self.reference else {}
        heads = [synchformer.load(backbones[self.network])] if self.network else []
        try:
            if self.paired:
                pairs = pair_by_name(reference, generated, clean=self.paired == "clean")
                generated = {name: generated[name] for name in pairs}
                reference = {name: reference[own] for name, own in pairs.items()}
            score = self.score(generated, reference, *heads)
        except UserError as error:
            raise UserError(f"{generated_dir} and {reference_dir}: {error}") from error
        if np.ndim(score) == 0:
            return float(score)
        return dict(zip(generated, score.tolist(), strict=True))


def distance(generated: Clips, reference: Clips) -> float:
    """Of all windows, where a clip has several."""
    return frechet_distance(_rows(generated), _rows(reference))


def divergence(generated: Clips, reference: Clips) -> NDArray[np.float64]:
    return kl_softmax(_rows(reference), _rows(generated))


def inception(generated: Clips, reference: Clips) -> float:
    del reference
    return float(inception_scores(_rows(generated)).mean())


def similarity(generated: Clips, reference: Clips) -> NDArray[np.float64]:
    return cosine_similarity(_rows(reference), _rows(generated))


def synchrony(generated: Clips, reference: Clips, head: synchformer.Head) -> NDArray[np.float64]:
    """DeSync of each clip [n], of its first and its last window."""
    for name, sound in generated.items():
        if min(len(sound), len(reference[name])) < synchformer.SEGMENTS:
            raise UserError(
                f"clip '{name}' is shorter than {synchformer.SEGMENTS} segments (4.8 s); leave it "
                "out of both"
            )
    names = [*generated]
    values = []
    for start in range(0, len(names), _BATCH_CLIPS):
        batch = names[start : start + _BATCH_CLIPS]
        first, last = (
            head(
                np.stack([reference[name][window] for name in batch]),
                np.stack([generated[name][window] for name in batch]),
            )
            for window in (slice(synchformer.SEGMENTS), slice(-synchformer.SEGMENTS, None))
        )
        _check_finite(dict(zip(batch, first + last, strict=True)))
        values.append(synchformer.desync(first, last))
    return np.concatenate(values)


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
      clean: read the generated names by `clean_sample_name`.

    Raises:
      UserError: no clip finds its reference.
    """
    sought = {name: clean_sample_name(name) if clean else name for name in generated}
    there = set(references)
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


def mel_distances(rows: Sequence[Row], versions: Sequence[str]) -> Mapping[str, float]:
    """Frechet distance of each version's mel statistics from those of the true sounds.

    It needs no network, and follows the colour and the dynamics of the sounds, not what they are
    of. No published figure is of it; it compares runs with one another.
    """
    features = {
        version: np.array([row.mel_statistics[version] for row in rows]) for version in versions
    }
    return {
        version: frechet_distance(values, features["ground_truth"])
        for version, values in features.items()
    }
