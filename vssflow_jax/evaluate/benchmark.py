"""What a benchmark is: which clips, for how long, and which metrics; one small config file each.

`configs/benchmarks/` has those of the field. A file of your own has a function `get_config` that
returns a ConfigDict with any of `Benchmark`'s fields.
"""

import dataclasses
import importlib.util
import math
import runpy
from pathlib import Path
from typing import Any, get_args

import ml_collections

from vssflow_jax.evaluate.metrics.labels import VERSIONS
from vssflow_jax.evaluate.metrics.registry import METRICS
from vssflow_jax.evaluate.metrics.wer import Normalisation
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.utils.object_cache import local

SHORTEST_SEC = 0.1
PARTS = ("train", "test")
RECOGNISERS = ("grid", "whisper", "none")
EXTRA_VERSIONS = ("codec", "shuffled")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Which clips are evaluated, and how.

    Attributes:
      name: name of the benchmark; published figures are found by it.
      part: part of the dataset, one of `PARTS`.
      tasks: tasks whose clips are taken, some of `vssflow_jax.input_pipeline.tasks.TASKS`.
      max_clips: largest number of clips of each task, evenly spread; 0 for all.
      clip_sec: sounds are cut to it before they are measured; 0 leaves them as long as the clip.
      metrics: some of `METRICS`; all that are measured here, unless they are given.
      recogniser: recogniser of words: "grid", whose sentences it knows alone, "whisper", whose
        weights the config names, or "none".
      versions: some of `EXTRA_VERSIONS`, measured beside the generated and the true sounds.
      normalisation: normalisation of texts before words are compared (`metrics.wer.Normalisation`).
      mp4: whether each generated sound is also written beside the clip's pictures.
    """

    name: str
    part: str = "test"
    tasks: tuple[str, ...] = dataclasses.field(default_factory=lambda: tuple(TASKS))
    max_clips: int = 0
    clip_sec: float = 0.0
    metrics: tuple[str, ...] = dataclasses.field(
        default_factory=lambda: tuple(name for name, metric in METRICS.items() if metric.measured)
    )
    recogniser: str = "grid"
    versions: tuple[str, ...] = ()
    normalisation: Normalisation = "lower_nopunct"
    mp4: bool = False

    def __post_init__(self) -> None:
        """Raises UserError for a value that is unknown or out of bounds."""
        for field in ("tasks", "metrics", "versions"):
            values = getattr(self, field)
            if not isinstance(values, tuple) or len(set(values)) < len(values):
                raise UserError(f"benchmark {self.name}: {field} is no tuple of different names")
        whole = isinstance(self.max_clips, int) and self.max_clips >= 0
        seconds = isinstance(self.clip_sec, int | float) and (
            self.clip_sec == 0 or SHORTEST_SEC <= self.clip_sec < math.inf
        )
        if not whole or not seconds or not isinstance(self.mp4, bool):
            raise UserError(
                f"benchmark {self.name}: max_clips is a number of clips, clip_sec 0 or at least "
                f"{SHORTEST_SEC}, mp4 True or False"
            )
        self._check("part", (self.part,), PARTS)
        self._check("tasks", self.tasks, tuple(TASKS))
        known = (name for name, metric in METRICS.items() if metric.measured)
        self._check("metrics", self.metrics, tuple(known))
        self._check("recogniser", (self.recogniser,), RECOGNISERS)
        self._check("versions", self.versions, EXTRA_VERSIONS)
        self._check("normalisation", (self.normalisation,), get_args(Normalisation))

    def _check(self, field: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
        for value in values:
            if value not in known:
                raise UserError(
                    f"benchmark {self.name}: {field} has '{value}'; choose from {', '.join(known)}"
                )

    @property
    def absent(self) -> dict[str, str]:
        """Metrics that cannot be had -> how they could."""
        reasons = {
            name: self._no_words if METRICS[name].of_words else METRICS[name].absence
            for name in self.metrics
        }
        return {name: reason for name, reason in reasons.items() if reason}

    @property
    def _no_words(self) -> str:
        """How words could be recognised, if they cannot; else ""."""
        if self.recogniser == "none":
            return "the benchmark names no recogniser: choose 'whisper' or 'grid'"
        needed = {"jiwer": "metrics"}
        if self._hears_grid:
            needed["pocketsphinx"] = "demo"
        if self.normalisation == "whisper":
            needed["whisper_normalizer"] = "metrics"
        for package, extra in needed.items():
            if importlib.util.find_spec(package) is None:
                return f"the package {package} is not installed: pip install -e '.[{extra}]'"
        return ""

    @property
    def _hears_grid(self) -> bool:
        return self.recogniser == "grid"

    @property
    def of_clips(self) -> tuple[str, ...]:
        """Metrics of single clips that can be had by looking at these alone."""
        absent = self.absent
        return tuple(
            name
            for name in self.metrics
            if name not in absent
            and (METRICS[name].of_clip or (METRICS[name].of_words and self._hears_grid))
        )

    @property
    def measured(self) -> tuple[str, ...]:
        """The sounds that are measured, in the order of `VERSIONS`."""
        wanted = ("generated", "ground_truth", *self.versions)
        return tuple(name for name in VERSIONS if name in wanted)

    def places(self, dataset: Dataset) -> list["Place"]:
        """The clips, by task and index, without reading any.

        Raises:
          UserError: the dataset has no clips of the benchmark.
        """
        places = []
        for task in self.tasks:
            count = dataset.count(self.part, task)
            taken = min(count, self.max_clips or count)
            places += [Place(task, i * count // taken) for i in range(taken)]
        if not places:
            raise UserError(
                f"dataset {dataset.path}: no {self.part} split of {', '.join(self.tasks)}, which "
                f"benchmark {self.name} is of; name another --config.data.path or benchmark"
            )
        return places


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a clip lies in its part of the dataset."""

    task: str
    index: int


def load(name: str, folder: Path) -> Benchmark:
    """A benchmark by the name of a file in `folder`, or by the path of one anywhere.

    Raises:
      UserError: there is no such file, or it is no benchmark.
    """
    path = as_path(name) if name.endswith(".py") else folder / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("[!_]*.py")))
        raise UserError(
            f"benchmark '{name}': no file {path}; choose one of {known}, or name a file of yours"
        )
    fields = _read(path)
    known_fields = [field.name for field in dataclasses.fields(Benchmark)]
    for field in fields:
        if field not in known_fields:
            raise UserError(
                f"benchmark {path}: no field '{field}'; there are {', '.join(known_fields)}"
            )
    # A list in a ConfigDict is meant as well as a tuple.
    fields = {name: tuple(x) if isinstance(x, list) else x for name, x in fields.items()}
    return Benchmark(**{"name": path.stem, **fields})


def _read(path: Path) -> dict[str, Any]:
    try:
        config = runpy.run_path(str(local(path))).get("get_config", lambda: None)()
    except Exception as error:  # A file of the user's own may raise anything.
        raise UserError(f"benchmark {path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(
            f"benchmark {path}: it needs a function get_config that returns a ConfigDict"
        )
    return config.to_dict()
