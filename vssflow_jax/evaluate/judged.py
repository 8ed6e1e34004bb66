"""What networks say of the clips of an evaluation: from the files of clips to scores."""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from vssflow_jax.evaluate import rows
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.metrics import wer
from vssflow_jax.evaluate.metrics.of_sets import OfSet
from vssflow_jax.evaluate.metrics.registry import METRICS, Metric
from vssflow_jax.evaluate.networks import files
from vssflow_jax.evaluate.networks.extract import extract
from vssflow_jax.evaluate.networks.files import Cache
from vssflow_jax.evaluate.networks.judge import how_to_name
from vssflow_jax.evaluate.networks.judges import JUDGES
from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder

SOUNDS = {"generated": "wav", "reference": "reference"}
"""Side -> the folder of its sounds; the features of videos are with those of the reference."""
_VERSIONS = {"generated": "generated", "ground_truth": "reference"}  # -> side
_DIGITS = 12  # of a digest
_CONFUSIONS = 20  # that are most frequent

Score = dict[str, Any]
"""The value, the ends of its interval, which are None where there is none, the clips, and more
where there is more to say (`metrics.of_sets.OfSet.more`)."""


class Shown(NamedTuple):
    """What networks are shown.

    Attributes:
      sounds: side -> clip -> file of its sound.
      videos: clip -> file of its pictures, of those that have some.
      tasks: clip -> its task.
      spoken: clips with a transcript.
    """

    sounds: Mapping[str, Mapping[str, Path]]
    videos: Mapping[str, Path]
    tasks: Mapping[str, str]
    spoken: Set[str]

    @classmethod
    def written(cls, out: Path) -> "Shown":
        """The sounds that an evaluation has written, and the videos that its rows name."""
        good = [row for row in rows.read(out) if not row.failed]
        return cls(
            sounds={
                side: {row.clip_id: out / name / f"{row.clip_id}.wav" for row in good}
                for side, name in SOUNDS.items()
            },
            videos={row.clip_id: Path(row.video) for row in good if row.video},
            tasks={row.clip_id: row.task for row in good},
            spoken={row.clip_id for row in good if row.transcript},
        )

    def of(self, kind: str, side: str) -> Mapping[str, Path]:
        """The files of a kind, "video" or "sound"."""
        return self.videos if kind == "video" else self.sounds[side]


@dataclasses.dataclass(frozen=True)
class Judged:
    """Features of the clips of an evaluation.

    Attributes:
      weights: kind of a network -> the file or folder of its weights.
      folders: side -> the folder of its features.
      named: sides whose features the config names: nothing is made there.
    """

    weights: Mapping[str, Path]
    folders: Mapping[str, Path]
    named: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: ml_collections.ConfigDict, out: Path) -> "Judged":
        """Of the evaluation in a folder.

        Raises:
          UserError: weights are named that are not there.
        """
        named = {side: config.eval.features[side] for side in SOUNDS}
        return cls(
            weights=backbones(config),
            folders={side: Path(named[side] or out / "features" / side) for side in SOUNDS},
            named=frozenset(side for side, path in named.items() if path),
        )

    # ------------------------------------------------------------------------- the networks look
    def check(self, benchmark: Benchmark) -> None:
        """Checks that the weights that will be needed can be read.

        Raises:
          UserError: they are damaged, or of another network.
        """
        for name in self._judges(benchmark):
            JUDGES[name](self.weights[JUDGES[name].kind]).check()

    def extract(self, benchmark: Benchmark, shown: "Shown") -> None:
        """Make the features that metrics need and weights are there for, in all processes.

        Raises:
          UserError: weights are damaged, or of another network.
        """
        for name in self._judges(benchmark):
            judge, metrics = JUDGES[name], self._metrics_by(benchmark, name)
            for side in ["reference"] if judge.shown == "video" else [*SOUNDS]:
                paths = {
                    clip: path
                    for clip, path in shown.of(judge.shown, side).items()
                    if (
                        clip in shown.spoken
                        if name == files.TEXT.judge
                        else any(metric.is_of(shown.tasks[clip]) for metric in metrics)
                    )
                }
                if side not in self.named and paths:
                    features, weights = self.folders[side], self.weights[judge.kind]
                    extract(name, weights, paths, features, benchmark.clip_sec)

    def _judges(self, benchmark: Benchmark) -> list[str]:
        """Those that metrics need and whose weights are at hand."""
        return [
            name
            for name, judge in JUDGES.items()
            if judge.kind in self.weights
            and (
                self._metrics_by(benchmark, name)
                or (name == files.TEXT.judge and benchmark.recogniser == "whisper")
            )
        ]

    @staticmethod
    def _metrics_by(benchmark: Benchmark, judge: str) -> list[Metric]:
        """Those that need features by a judge, and can be had."""
        impossible = benchmark.absent
        wanted = [METRICS[name] for name in benchmark.metrics if name not in impossible]
        return [x for x in wanted if judge in {cache.judge for cache in _caches(x)}]

    # ------------------------------------------------------------------------ what they have said
    def add_words(self, benchmark: Benchmark, good: Sequence[Row]) -> dict[str, str]:
        """Put what is heard, and its scores, into the rows of clips in which something is said.

        Returns:
          Metric that cannot be had -> how it could.
        """
        names = [name for name in benchmark.metrics if METRICS[name].of_words]
        names = [name for name in names if name not in benchmark.absent]
        absent: dict[str, str] = {}
        if names and benchmark.recogniser == "whisper":
            try:
                self._recognise(good)
            except UserError as error:
                absent = dict.fromkeys(names, str(error))
        for row, name in itertools.product(good, names):
            metric = METRICS[name]
            if metric.of_words and row.transcript and metric.is_of(row.task):
                for version, heard in row.recognised.items():
                    row.scores.setdefault(version, {})[name] = metric.of_words(
                        row.transcript, heard, benchmark.normalisation
                    )
        return absent

    def _recognise(self, good: Sequence[Row]) -> None:
        if not files.TEXT.there(self.folders["generated"]):
            raise UserError(
                f"words are recognised by Whisper: {how_to_name(JUDGES[files.TEXT.judge])} "
                "(docs/evaluation_networks.md)"
            )
        for version, side in _VERSIONS.items():
            if files.TEXT.there(self.folders[side]):
                texts = files.read(self.folders[side], files.TEXT)
                for row in good:
                    if row.clip_id in texts:
                        row.recognised[version] = texts[row.clip_id].tobytes().decode()

    def words(self, benchmark: Benchmark, good: Sequence[Row]) -> dict[str, Any]:
        """Errors of words by kind in the generated sounds, and what was most often confused.

        Nothing where no words are recognised.
        """
        if benchmark.absent.keys() & {"wer"}:
            return {}
        pairs = [
            (row.transcript, row.recognised["generated"], benchmark.normalisation)
            for row in good
            if row.transcript and "generated" in row.recognised
        ]
        if not pairs:
            return {}
        errors = [wer.word_errors(*pair) for pair in pairs]
        counted = collections.Counter(both for pair in pairs for both in wer.confusions(*pair))
        kinds = zip(*errors, strict=True)
        return {
            **dict(zip(wer.Errors._fields, map(sum, kinds), strict=True)),
            "confusions": [
                [said, heard, count] for (said, heard), count in counted.most_common(_CONFUSIONS)
            ],
        }

    def scores(
        self, benchmark: Benchmark, good: Sequence[Row]
    ) -> tuple[dict[str, dict[str, Score]], dict[str, str]]:
        """Scores of all clips together, and how to get those that are not there.

        They have no intervals, which `metrics.bootstrap` explains. Those that networks give to
        single clips go into the rows.
        """
        self._tell_unfit(good)
        by_id = {row.clip_id: row for row in good}
        found: dict[str, dict[str, Score]] = {}
        absent: dict[str, str] = {}
        impossible = benchmark.absent
        for name in benchmark.metrics:
            if name in impossible:
                continue
            metric = METRICS[name]
            values: dict[str, tuple[OfSet, int]] = {}
            try:
                if metric.of_rows:
                    of_rows = metric.of_rows(good, benchmark.measured)
                    values = {version: (OfSet.of(x), len(good)) for version, x in of_rows.items()}
                elif metric.of_features:
                    values = self._of_features(name, metric, by_id)
            except UserError as error:
                absent[name] = str(error)
            if values:
                found[name] = {
                    version: {"value": x.value, "low": None, "high": None, "clips": clips, **x.more}
                    for version, (x, clips) in values.items()
                }
        return found, absent

    def _of_features(
        self, name: str, metric: Metric, by_id: Mapping[str, Row]
    ) -> dict[str, tuple[OfSet, int]]:
        """Version -> score and clips of a metric of sets; one of single clips goes into rows."""
        of_features = metric.of_features
        assert of_features
        values = {}
        for version, side in _VERSIONS.items():
            own, reference = self.folders[side], self.folders["reference"]
            truth = version == "ground_truth"
            if truth and not (of_features.of_truth and of_features.generated.there(own)):
                continue
            score = of_features.measure(own, reference, self.weights)
            if isinstance(score, OfSet):
                values[version] = score, len(by_id) - len(self._unfit(of_features.generated))
            else:
                for clip_id in score.keys() & by_id.keys():
                    row = by_id[clip_id]
                    if not metric.is_of(row.task):
                        continue
                    if np.isnan(score[clip_id]):
                        row.problems[name] = f"{version}: {of_features.unfit}"
                    else:
                        row.scores.setdefault(version, {})[name] = (score[clip_id], 1.0)
        return values

    def _unfit(self, cache: Cache) -> dict[str, str]:
        return Store(self.folders["generated"] / cache.judge).unfit()

    def _tell_unfit(self, good: Sequence[Row]) -> None:
        """Say in the rows what networks could not look at."""
        by_id = {row.clip_id: row for row in good}
        for features, name in itertools.product(self.folders.values(), JUDGES):
            for clip, reason in Store(features / name).unfit().items():
                if clip in by_id:
                    by_id[clip].problems[name] = reason

    def networks(self, benchmark: Benchmark) -> dict[str, str]:
        """Metric -> the network that it is by, and the start of the digest of its weights."""
        found = {}
        for name in benchmark.metrics:
            metric = METRICS[name]
            caches = [files.TEXT] if metric.of_words else _caches(metric)
            told = [
                f"{JUDGES[cache.judge].title}, sha256 {origin['sha256'][:_DIGITS]}"
                for cache in caches
                for side in _VERSIONS.values()
                if cache.judge in JUDGES and (origin := cache.origin(self.folders[side]))
            ]
            if told and not (metric.of_words and benchmark.recogniser != "whisper"):
                found[name] = "; ".join(dict.fromkeys(told))
        return found


def _caches(metric: Metric) -> list[Cache]:
    """The features that a metric is of."""
    of_features = metric.of_features
    if of_features is None:
        return []
    return [cache for cache in (of_features.generated, of_features.reference) if cache]


def backbones(config: ml_collections.ConfigDict) -> dict[str, Path]:
    """The networks whose weights the config names; see `named_weights`."""
    return named_weights(config.eval.backbones, config.eval.weights)


def named_weights(each: Mapping[str, str], root: str) -> dict[str, Path]:
    """Networks whose weights are named, one by one or as a folder of folders.

    Args:
      each: kind of a network -> the file or folder of its weights, or "".
      root: a folder with a file or folder for each kind, or ""; what `each` names comes first.

    Raises:
      UserError: there is no such file or folder.
    """
    found = {name: Path(path) for name, path in each.items() if path}
    for name, path in found.items():
        if not path.exists():
            raise UserError(f"eval.backbones.{name} is {path}; there is no such file or folder")
    if not root:
        return found
    if not Path(root).is_dir():
        raise UserError(f"weights: {root} is no folder")
    inside = {judge.kind: Path(root, judge.kind) for judge in JUDGES.values()}
    # Of Synchformer an encoder's side may lie there, which is of no use here.
    one_side = folder.is_imported(inside["synchformer"])
    return {
        kind: path
        for kind, path in inside.items()
        if path.exists() and not (kind == "synchformer" and one_side)
    } | found
