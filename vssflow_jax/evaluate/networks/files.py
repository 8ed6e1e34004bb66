"""Scores of features that lie in folders as av-benchmark keeps them.

A folder of `.pth` files, each a dict of clip name -> tensor, for the generated sounds, and another
for the references: sounds, and videos. They are made by av-benchmark's own `extract.py` and
`extract_video.py`, or, for the networks that are at hand, by `backbones.extract`. What is paired,
and what is not, is as in its `av_bench/evaluate.py`.
"""

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.evaluate.metrics.classes import inception_score, kl_softmax
from vssflow_jax.evaluate.metrics.fd import frechet_distance
from vssflow_jax.evaluate.metrics.pairing import pair_by_name
from vssflow_jax.evaluate.metrics.similarity import cosine_similarity
from vssflow_jax.evaluate.metrics.synchrony import desync
from vssflow_jax.evaluate.networks import panns, synchformer, vggish
from vssflow_jax.evaluate.networks.weights import EXTRA, load_torch
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

Clips = Mapping[str, NDArray[np.float32]]
"""Clip name -> its features."""
Backbones = Mapping[str, Path]
"""Name of a network -> the file of its weights."""

PASST_WIDTH: Final = 768
IMAGEBIND_WIDTH: Final = 1024

_DOCS: Final = "docs/evaluation_networks.md"
_BATCH_CLIPS: Final = 16  # that Synchformer's head compares at a time
_NO_BACKBONES: Final[Backbones] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Cache:
    """A file of features.

    Attributes:
      file: its name.
      shape: of the tensor of a clip; None where any size may be.
      key: of it, where a clip has a dict of tensors.
      network: at hand that makes it; "" if only av-benchmark does.
    """

    file: str
    shape: tuple[int | None, ...]
    key: str = ""
    network: str = ""


_PANNS = functools.partial(Cache, "pann_features.pth", network="panns")
PANNS_FEATURES: Final = _PANNS((panns.WIDTH,), f"{panns.WIDTH}")
PANNS_LOGITS: Final = _PANNS((panns.CLASSES,), "logits")
PANNS_PROBABILITIES: Final = _PANNS((panns.CLASSES,), "clipwise_output")
VGGISH: Final = Cache("vggish_features.pth", (None, vggish.WIDTH), network="vggish")
PASST_FEATURES: Final = Cache("passt_features_embed.pth", (PASST_WIDTH,))
PASST_LOGITS: Final = Cache("passt_logits.pth", (panns.CLASSES,))
IMAGEBIND_VIDEO: Final = Cache("imagebind_video.pth", (IMAGEBIND_WIDTH,))
IMAGEBIND_AUDIO: Final = Cache("imagebind_audio.pth", (IMAGEBIND_WIDTH,))
_SYNCHFORMER_SHAPE = {
    kind: (None, tokens, synchformer.WIDTH)
    for kind, tokens in (("video", synchformer.VIDEO_TOKENS), ("audio", synchformer.AUDIO_TOKENS))
}
SYNCHFORMER_VIDEO: Final = Cache("synchformer_video.pth", _SYNCHFORMER_SHAPE["video"])
SYNCHFORMER_AUDIO: Final = Cache("synchformer_audio.pth", _SYNCHFORMER_SHAPE["audio"])


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


def read(directory: Path, cache: Cache) -> Clips:
    """The features of all clips in a folder, in the order of the file.

    They stay in the file until they are used.

    Raises:
      UserError: the file is missing, damaged or of other features; torch is not installed.
    """
    path = directory / cache.file
    loaded = load_torch(path)
    if not isinstance(loaded, dict) or not loaded:
        raise UserError(f"{path} holds no dict of clips; extract it again")
    clips = {}
    for clip, value in loaded.items():
        tensor: Any = value.get(cache.key) if isinstance(value, dict) else value
        shape = tuple(getattr(tensor, "shape", ()))
        if not _fits(shape, cache.shape):
            what = f"'{cache.key}' of clip" if cache.key else "clip"
            expected = ", ".join("any" if size is None else str(size) for size in cache.shape)
            raise UserError(
                f"{path}: {what} '{clip}' has shape {list(shape)}, expected [{expected}]; extract "
                "it again with the network that the file is named for"
            )
        clips[str(clip)] = tensor.float().numpy()
    return clips


def write(directory: Path, clips: Mapping[str, Mapping[Cache, NDArray[np.floating]]]) -> None:
    """Write a file of features, which appears whole or not at all.

    Args:
      directory: is made if it is missing.
      clips: clip name -> its features; all are of one file.

    Raises:
      UserError: torch is not installed.
    """
    torch = require("torch", EXTRA)
    files = {cache.file for features in clips.values() for cache in features}
    assert len(files) == 1, f"features of one file, not of {files}"
    path = directory / files.pop()
    directory.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        torch.save({clip: _entry(torch, features) for clip, features in clips.items()}, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _entry(torch: Any, features: Mapping[Cache, NDArray[np.floating]]) -> Any:
    """What stands for a clip in a file: a tensor, or a dict of tensors."""
    tensors = {
        cache.key: torch.from_numpy(np.array(values, np.float32))
        for cache, values in features.items()
    }
    return tensors.get("", tensors)


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        wanted in (None, size) for size, wanted in zip(shape, expected, strict=True)
    )


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
