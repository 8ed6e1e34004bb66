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
from vssflow_jax.evaluate.metrics.registry import CAPTION, METRICS, Metric
from vssflow_jax.evaluate.networks import files, judges
from vssflow_jax.evaluate.networks.extract import extract
from vssflow_jax.evaluate.networks.files import Cache
from vssflow_jax.evaluate.networks.judge import how_to_name
from vssflow_jax.evaluate.networks.judges import JUDGES
from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.weights.folder import is_imported

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
      captions: clip -> its caption, of those that have one.
    """

    sounds: Mapping[str, Mapping[str, Path]]
    videos: Mapping[str, Path]
    tasks: Mapping[str, str]
    spoken: Set[str]
    captions: Mapping[str, str] = {}

    @classmethod
    def written(cls, out: Path) -> "Shown":
        """The sounds that an evaluation has written, and the videos that its rows name."""
        good = [row for row in rows.read(out) if not row.failed]
        return cls(
            sounds={
                side: {row.clip_id: out / name / f"{row.clip_id}.wav" for row in good}
                for side, name in SOUNDS.items()
            },
            videos={row.clip_id: as_path(row.video) for row in good if row.video},
            tasks={row.clip_id: row.task for row in good},
            spoken={row.clip_id for row in good if row.transcript},
            captions={row.clip_id: row.caption for row in good if row.caption},
        )

    def of(self, kind: str, side: str) -> Mapping[str, Path | str]:
        """What networks of a kind are shown of clips."""
        if kind == "sound":
            return self.sounds[side]
        return self.videos if kind == "video" else self.captions

    def fits(self, clip: str, metric: Metric) -> bool:
        """Whether a clip can have a metric."""
        return _fits(metric, self.tasks[clip], clip in self.spoken, clip in self.captions)


@dataclasses.dataclass(frozen=True)
class Judged:
    """Features of the clips of an evaluation.

    Attributes:
      weights: kind of a network -> the file or folder of its weights.
      own: side -> the folder of the features that are made here.
      named: side -> a folder of features that the config names; what it has is not made here.
    """

    weights: Mapping[str, Path]
    own: Mapping[str, Path]
    named: Mapping[str, Path] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, config: ml_collections.ConfigDict, out: Path) -> "Judged":
        """Of the evaluation in a folder.

        Raises:
          UserError: weights are named that are not there.
        """
        named = {side: config.eval.features[side] for side in SOUNDS}
        return cls(
            weights=named_weights(config.eval.backbones, config.eval.weights),
            own={side: out / "features" / side for side in SOUNDS},
            named={side: as_path(path) for side, path in named.items() if path},
        )

    def folder(self, side: str, cache: Cache) -> Path:
        """Where features are looked for."""
        named = self.named.get(side)
        return named if named and cache.there(named) else self.own[side]

    # ------------------------------------------------------------------------- the networks look
    def check(self, benchmark: Benchmark) -> None:
        """Checks that the weights that will be needed can be read, and packages are installed.

        Raises:
          UserError: weights are damaged, or of another network; a package is missing.
        """
        for name in self._judges(benchmark):
            JUDGES[name](self.weights[JUDGES[name].kind]).check()
        judges.forget()

    def extract(self, benchmark: Benchmark, shown: "Shown") -> None:
        """Make the features that metrics need and weights are there for, in all processes.

        Raises:
          UserError: weights are damaged, or of another network.
        """
        for name in self._judges(benchmark):
            judge = JUDGES[name]
            metrics = _metrics_by(benchmark, name)
            caches = [x for metric in metrics for x in _caches(metric, benchmark)]
            for side in [*SOUNDS] if judge.shown == "sound" else ["reference"]:
                if all(self.folder(side, x) != self.own[side] for x in caches if x.judge == name):
                    continue
                fit = {
                    clip: one
                    for clip, one in shown.of(judge.shown, side).items()
                    if any(shown.fits(clip, metric) for metric in metrics)
                }
                if fit:
                    weights = self.weights[judge.kind]
                    extract(name, weights, fit, self.own[side], benchmark.clip_sec)

    def _judges(self, benchmark: Benchmark) -> list[str]:
        """Those that metrics need, and that are at hand with all that belongs to them."""
        return [
            name
            for name, judge in JUDGES.items()
            if judge.kind in self.weights
            and _metrics_by(benchmark, name)
            and not judge(self.weights[judge.kind]).lacking
        ]

    def _check_there(self, side: str, cache: Cache) -> None:
        """Checks that there are features, which nobody made where there was nothing to look at."""
        judge = JUDGES.get(cache.judge)
        if cache.there(self.folder(side, cache)) or not judge or judge.kind not in self.weights:
            return
        what = "transcript" if cache == files.TEXT else judge.shown
        raise UserError(
            judge(self.weights[judge.kind]).lacking
            or f"no clip has a {what} for {judge.title} to look at (docs/evaluation.md)"
        )

    def _check_whole(self, side: str, cache: Cache, rows: Sequence[Row]) -> None:
        """Checks that features that are made here have been made of all clips that have them."""
        folder, judge = self.folder(side, cache), JUDGES.get(cache.judge)
        store = Store(folder / cache.judge)
        if folder != self.own[side] or not judge or not store.exists:
            return
        has = {row.clip_id for row in rows if row.video or judge.shown != "video"}
        missing = has - store.done() - store.unfit().keys()
        if missing:
            raise UserError(
                f"{judge.title} was stopped before it had seen the {judge.shown} of {len(missing)} "
                f"clips, such as {min(missing)}: {how_to_name(judge)}, and it goes on"
            )

    def _check_alike(self, generated: Cache, reference: Cache) -> None:
        """Checks that features that are compared are by the same weights, of as long sounds."""
        folders = self.folder("generated", generated), self.folder("reference", reference)
        ours, theirs = generated.origin(folders[0]), reference.origin(folders[1])
        captions = any(
            cache.judge in JUDGES and JUDGES[cache.judge].shown == CAPTION
            for cache in (generated, reference)
        )
        for key, what in (
            ("sha256", "by another file of weights"),
            *(() if captions else [("max_sec", "of clips cut otherwise")]),
        ):
            if ours and theirs and ours.get(key) != theirs.get(key):
                raise UserError(
                    f"the features in {folders[1]} are {what} than those in {folders[0]} are; "
                    "extract them again, or name others"
                )

    # ------------------------------------------------------------------------ what they have said
    def add_words(self, benchmark: Benchmark, good: Sequence[Row]) -> dict[str, str]:
        """Put what is heard, and its scores, into the rows of clips in which something is said.

        Returns:
          Metric that cannot be had -> how it could.
        """
        names = _of_words(benchmark)
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
        self._check_there("generated", files.TEXT)
        for side in SOUNDS:
            self._check_whole(side, files.TEXT, [row for row in good if row.transcript])
        if not files.TEXT.there(self.folder("generated", files.TEXT)):
            how = how_to_name(JUDGES[files.TEXT.judge])
            raise UserError(f"words are recognised by Whisper: {how} (docs/evaluation_networks.md)")
        for version, side in _VERSIONS.items():
            folder = self.folder(side, files.TEXT)
            if files.TEXT.there(folder):
                texts = files.read(folder, files.TEXT)
                for row in good:
                    if row.clip_id in texts:
                        row.recognised[version] = texts[row.clip_id].tobytes().decode()

    def words(self, benchmark: Benchmark, good: Sequence[Row]) -> dict[str, Any]:
        """Errors of words by kind in the generated sounds, and what was most often confused.

        They are of the clips that have a metric of words; nothing where there are none.
        """
        metrics = [METRICS[name] for name in _of_words(benchmark)]
        pairs = [
            (row.transcript, row.recognised["generated"], benchmark.normalisation)
            for row in good
            if row.transcript
            and "generated" in row.recognised
            and any(metric.is_of(row.task) for metric in metrics)
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
        reference_side = of_features.reference or of_features.generated
        reference = self.folder("reference", reference_side)
        # The reference first, for which there may be nothing to look at in any clip.
        fitting = _fitting(by_id, metric)
        for side, cache in (("reference", reference_side), ("generated", of_features.generated)):
            self._check_there(side, cache)
            self._check_whole(side, cache, fitting)
        self._check_alike(of_features.generated, reference_side)
        values = {}
        for version, side in _VERSIONS.items():
            folder = self.folder(side, of_features.generated)
            # Of a folder that is named all clips count, whatever they are called there.
            only = None if folder != self.own[side] else by_id.keys()
            if version == "ground_truth" and not of_features.generated.there(folder):
                continue
            if version == "ground_truth" and not of_features.of_truth:
                continue
            if version == "ground_truth" and of_features.generated != reference_side:
                self._check_whole(side, of_features.generated, fitting)
            try:
                score, clips = of_features.measure(folder, reference, self.weights, only)
            except UserError:
                if version == "generated":
                    raise
                continue
            if isinstance(score, OfSet):
                values[version] = score, clips
                continue
            for clip_id in score.keys() & by_id.keys():
                row = by_id[clip_id]
                if not metric.is_of(row.task):
                    continue
                if np.isnan(score[clip_id]):
                    row.problems[name] = f"{version}: {of_features.unfit}"
                else:
                    row.scores.setdefault(version, {})[name] = (score[clip_id], 1.0)
        return values

    def _tell_unfit(self, good: Sequence[Row]) -> None:
        """Say in the rows what networks could not look at."""
        by_id = {row.clip_id: row for row in good}
        for features, (name, judge) in itertools.product(self.own.values(), JUDGES.items()):
            for clip, reason in Store(features / name).unfit().items():
                if clip in by_id:
                    by_id[clip].problems[f"{judge.title}, {judge.shown}"] = reason

    def networks(self, benchmark: Benchmark) -> dict[str, str]:
        """Metric -> the network that it is by, and the start of the digest of its weights."""
        found = {}
        for name in benchmark.metrics:
            told = [
                f"{JUDGES[cache.judge].title}, sha256 {origin['sha256'][:_DIGITS]}"
                for cache in _caches(METRICS[name], benchmark)
                for side in _VERSIONS.values()
                if cache.judge in JUDGES and (origin := cache.origin(self.folder(side, cache)))
            ]
            if told:
                found[name] = "; ".join(dict.fromkeys(told))
        return found


def _fits(metric: Metric, task: str, spoken: bool, captioned: bool) -> bool:
    """Whether a clip of a task can have a metric, with a transcript and a caption or without."""
    return (
        metric.is_of(task)
        and (spoken or not metric.of_words)
        and (captioned or metric.needs != CAPTION)
    )


def _fitting(by_id: Mapping[str, Row], metric: Metric) -> list[Row]:
    return [
        row
        for row in by_id.values()
        if _fits(metric, row.task, bool(row.transcript), bool(row.caption))
    ]


def _of_words(benchmark: Benchmark) -> list[str]:
    """The metrics of words that can be had."""
    impossible = benchmark.absent
    return [x for x in benchmark.metrics if METRICS[x].of_words and x not in impossible]


def _metrics_by(benchmark: Benchmark, judge: str) -> list[Metric]:
    """Those that need features by a judge, and can be had."""
    impossible = benchmark.absent
    wanted = [METRICS[name] for name in benchmark.metrics if name not in impossible]
    return [x for x in wanted if judge in {cache.judge for cache in _caches(x, benchmark)}]


def _caches(metric: Metric, benchmark: Benchmark) -> list[Cache]:
    """The features that a metric is of."""
    if metric.of_words and benchmark.recogniser == "whisper":
        return [files.TEXT]
    of_features = metric.of_features
    if of_features is None:
        return []
    return [cache for cache in (of_features.generated, of_features.reference) if cache]


def named_weights(each: Mapping[str, str], root: str) -> dict[str, Path]:
    """Networks whose weights are named, one by one or as a folder of folders.

    Args:
      each: kind of a network -> the file or folder of its weights, or "".
      root: a folder with a file or folder for each kind, or ""; what `each` names comes first.

    Raises:
      UserError: there is no such file or folder.
    """
    found = {name: as_path(path) for name, path in each.items() if path}
    for name, path in found.items():
        if not path.exists():
            raise UserError(f"eval.backbones.{name} is {path}; there is no such file or folder")
    if not root:
        return found
    if not as_path(root).is_dir():
        raise UserError(f"weights: {root} is no folder")
    inside = {judge.kind: as_path(root, judge.kind) for judge in JUDGES.values()}
    # Of Synchformer an encoder's side may lie there, which is of no use here.
    one_side = is_imported(inside["synchformer"])
    return {
        kind: path
        for kind, path in inside.items()
        if path.exists() and not (kind == "synchformer" and one_side)
    } | found
