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
    IMAGEBIND_AUDIO,
    IMAGEBIND_VIDEO,
    PANNS_FEATURES,
    PANNS_LOGITS,
    PASST_FEATURES,
    PASST_LOGITS,
    SYNCHFORMER_AUDIO,
    SYNCHFORMER_VIDEO,
    VGGISH,
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


@dataclasses.dataclass(frozen=True)
class Metric:
    """How features become a score.

    Attributes:
      generated: features of the generated sounds.
      reference: features of the references; None if they are not needed.
      score: of the former, the latter, and the networks.
      network: whose file is needed beside the features; "" if none.
    """

    generated: Cache
    reference: Cache | None
    score: Callable[[Clips, Clips, Backbones], Score]
    network: str = ""


def absent(
    name: str,
    generated_dir: Path | None = None,
    reference_dir: Path | None = None,
    backbones: Backbones = _NO_BACKBONES,
) -> str:
    """What a score lacks and how to get it, or "" if it can be had; arguments as in `measure`."""
    metric = METRICS[name]
    if metric.network and metric.network not in backbones:
        return (
            f"the weights of {metric.network} compare its features: name their file by "
            f"--config.eval.backbones.{metric.network} ({_DOCS})"
        )
    if not importlib.util.find_spec("torch"):
        return f"the package torch, which reads features, is missing: pip install -e '.[{EXTRA}]'"
    sides = (
        ("generated", generated_dir, metric.generated),
        ("reference", reference_dir, metric.reference),
    )
    for side, directory, cache in sides:
        if cache and not (directory and (directory / cache.file).is_file()):
            where = directory or f"the folder --config.eval.features.{side}"
            own = f"name --config.eval.backbones.{cache.network}, or " if cache.network else ""
            return f"no {cache.file} in {where}: {own}extract it with av-benchmark ({_DOCS})"
    return ""


def measure(
    name: str, generated_dir: Path, reference_dir: Path, backbones: Backbones = _NO_BACKBONES
) -> Score:
    """One score.

    Args:
      name: of it, in `METRICS`.
      generated_dir: features of the generated sounds.
      reference_dir: features of the reference sounds and videos.
      backbones: networks that are at hand; only "synchformer" matters.

    Raises:
      UserError: a file is missing, damaged or of other features; no clips in common; too few for
        the score; a value that is not finite; torch is not installed.
    """
    metric = METRICS[name]
    generated = read(generated_dir, metric.generated)
    reference = read(reference_dir, metric.reference) if metric.reference else {}
    try:
        return metric.score(generated, reference, backbones)
    except UserError as error:
        raise UserError(f"{name} of {generated_dir} and {reference_dir}: {error}") from error


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


def _distance(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
    """Of all clips, paired or not; of all windows, where a clip has several."""
    del backbones
    return Score(frechet_distance(*(_rows(clips) for clips in (generated, reference))))


def _rows(clips: Clips) -> NDArray[np.float32]:
    return np.concatenate([np.atleast_2d(features) for features in clips.values()])


def _paired_distance(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
    del backbones
    _, of_generated, of_reference = _paired(generated, reference)
    return Score(frechet_distance(np.stack(of_generated), np.stack(of_reference)))


def _divergence(clean: bool) -> Callable[[Clips, Clips, Backbones], Score]:
    def score(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
        del backbones
        names, of_generated, of_reference = _paired(generated, reference, clean)
        values = kl_softmax(np.stack(of_reference), np.stack(of_generated))
        return _mean(dict(zip(names, values.tolist(), strict=True)))

    return score


def _inception(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
    del reference, backbones
    return Score(inception_score(_rows(generated)).mean)


def _paired_inception(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
    del backbones
    return Score(inception_score(np.stack(_paired(generated, reference)[1])).mean)


def _similarity(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
    del backbones
    names, sounds, videos = _paired(generated, reference)
    values = cosine_similarity(np.stack(videos), np.stack(sounds))
    return _mean(dict(zip(names, values.tolist(), strict=True)))


def _desync(generated: Clips, reference: Clips, backbones: Backbones) -> Score:
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


METRICS: Final[Mapping[str, Metric]] = {
    "fd_vggish": Metric(VGGISH, VGGISH, _distance),
    "fd_panns": Metric(PANNS_FEATURES, PANNS_FEATURES, _distance),
    "fd_passt": Metric(PASST_FEATURES, PASST_FEATURES, _paired_distance),
    "kl_panns": Metric(PANNS_LOGITS, PANNS_LOGITS, _divergence(clean=False)),
    "kl_passt": Metric(PASST_LOGITS, PASST_LOGITS, _divergence(clean=True)),
    "is_panns": Metric(PANNS_LOGITS, None, _inception),
    "is_passt": Metric(PASST_LOGITS, PASST_LOGITS, _paired_inception),
    "ib_score": Metric(IMAGEBIND_AUDIO, IMAGEBIND_VIDEO, _similarity),
    "desync": Metric(SYNCHFORMER_AUDIO, SYNCHFORMER_VIDEO, _desync, network="synchformer"),
}
"""Name of a score -> how it is had. av-benchmark calls them FD-VGG, FD-PANN, FD-PASST,
KL-PANNS-softmax, KL-PASST-softmax, ISC-PANNS-mean, ISC-PASST-mean, IB-Score, DeSync."""

MEL: Final = "fd_mel_statistics"
SET_METRICS: Final = (MEL, *METRICS)

SCORERS: Final = "score the folder with VERSA or ESPnet, by the lists beside the wavs"
ELSEWHERE: Final[Mapping[str, str]] = {
    "lse_c": "SyncNet's weights come with no package: score mp4/ with its authors' code",
    "lse_d": "SyncNet's weights come with no package: score mp4/ with its authors' code",
    "utmos": f"its weights come with no package: {SCORERS}",
}
"""What is not measured here -> how to get it."""


def mel_distances(rows: Sequence[Row], versions: Sequence[str]) -> Mapping[str, float]:
    """Frechet distance of each version's mel statistics from those of the true sounds."""
    features = {
        version: np.array([row.mel_statistics[version] for row in rows]) for version in versions
    }
    return {
        version: frechet_distance(values, features["ground_truth"])
        for version, values in features.items()
    }
