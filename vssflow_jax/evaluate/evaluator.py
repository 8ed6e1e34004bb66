"""The evaluation of a benchmark: restore, generate and measure, sum up, show."""

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from vssflow_jax.evaluate import kaldi, rows
from vssflow_jax.evaluate.benchmark import Benchmark, Place
from vssflow_jax.evaluate.clips import Evaluation
from vssflow_jax.evaluate.judged import Judged, Shown
from vssflow_jax.evaluate.metrics.ranking import extremes
from vssflow_jax.evaluate.pages import parts
from vssflow_jax.evaluate.pages.report import write_report
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.evaluate.scores import METRICS_FILE, sum_up
from vssflow_jax.evaluate.settings import claim, describe
from vssflow_jax.evaluate.versions import Renderer, of_samples
from vssflow_jax.html import clip_view, page
from vssflow_jax.html.clip_view import ClipView, Sound
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.example import Clip
from vssflow_jax.input_pipeline.shards import CacheOptions
from vssflow_jax.parallel import distributed
from vssflow_jax.run import run_config
from vssflow_jax.run import workdir as run_files
from vssflow_jax.run.experiment import Experiment, InferenceState, TrainState
from vssflow_jax.run.restore import digest, restore
from vssflow_jax.utils.checks import check_choice
from vssflow_jax.utils.files import as_path

REPORT = "report.html"


def evaluate(
    config: ml_collections.ConfigDict,
    benchmark: Benchmark,
    out: Path,
    run: Path | None,
    step: int | None = None,
    *,
    replace: bool = False,
) -> dict[str, Any]:
    """Evaluate a trained model on a benchmark, or go on with it.

    Args:
      config: config of the model; its `eval` section says how sounds are generated. What may not
        differ from the config of the run (`run_config.USABLE`) is taken from there.
      benchmark: says which clips, and what is measured.
      out: gets `metrics.json`, `per_clip.csv`, `report.html`, `wav/` with lists of what is in it,
        `mp4/` if the benchmark asks for it, and `evaluation.json` with all settings.
      run: folder of the run; None for the weights that `train.init_from` names.
      step: step of the checkpoint; the newest, if None.
      replace: whether an evaluation of something else in `out` is deleted; else it is an error.

    Returns:
      what `metrics.json` holds. Processes other than the main one return nothing.

    Raises:
      UserError: no checkpoint or another model's, no clips, a damaged dataset, or `out` holds
        another evaluation.
    """
    subject = Subject.restore(config, benchmark, run, step)
    return subject.evaluate(subject.renderer(), out, replace=replace)


def check_ready(config: ml_collections.ConfigDict, benchmark: Benchmark) -> None:
    """Checks what a model is not needed for, so that it is heard before anything is generated.

    Raises:
      UserError: the kind of lists is unknown, or weights of networks cannot be read.
    """
    check_choice("eval.lists", config.eval.lists, kaldi.LISTS)
    Judged.of(config, Path()).check(benchmark)


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is evaluated: a trained model on clips.

    Attributes:
      config: config of the model.
      benchmark: the benchmark.
      experiment: experiment of the model.
      dataset: the dataset that the clips are in.
      places: where the clips are in it.
      state: state of the model.
      run: folder of the run; None for imported weights.
      sha256: SHA-256 of the checkpoint, on the main process.
    """

    config: ml_collections.ConfigDict
    benchmark: Benchmark
    experiment: Experiment
    dataset: Dataset
    places: Sequence[Place]
    state: InferenceState
    run: Path | None
    sha256: str

    @classmethod
    def restore(
        cls,
        config: ml_collections.ConfigDict,
        benchmark: Benchmark,
        run: Path | None,
        step: int | None,
    ) -> "Subject":
        """Open the dataset and restore the model; arguments and errors as in `evaluate`."""
        check_ready(config, benchmark)
        if run:
            config = run_config.for_use(run, config)
        experiment = Experiment.from_config(config)
        dataset = Dataset(
            config.data.path,
            experiment.spec,
            config.data.durations,
            config.data.durations_path,
            experiment.model.feature_widths,
            CacheOptions.from_config(config.data),
        )
        places = benchmark.places(dataset)
        state = restore(experiment, run, step, dataset.latent_stats)
        sha256 = digest(config, run, int(state.step)) if distributed.is_main() else ""
        return cls(config, benchmark, experiment, dataset, places, state, run, sha256)

    def with_seed(self, seed: int) -> "Subject":
        """The same, evaluated by this seed alone."""
        config = copy.deepcopy(self.config)
        config.eval.seed, config.eval.seeds = seed, ()
        return dataclasses.replace(self, config=config)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the figures depend on."""
        checkpoint = str(self.run or self.config.train.init_from)
        return describe(
            self.config, self.benchmark, self.dataset, self.state, checkpoint, self.sha256
        )

    def renderer(self) -> Renderer:
        """Makes sounds by any seed, and compiles once."""
        return Renderer(self.config, self.experiment, self.benchmark.measured)

    def evaluation(self, out: Path) -> Evaluation:
        """The evaluation in a folder."""
        return Evaluation(self.config, self.benchmark, self.dataset, self.places, out)

    def evaluate(self, renderer: Renderer, out: Path, *, replace: bool) -> dict[str, Any]:
        """Generate and measure clip by clip, sum up, show; see the function `evaluate`."""
        settings, evaluation = self.settings, self.evaluation(out)
        metrics = _measure(evaluation, renderer, self.state, settings, replace=replace)
        if distributed.is_main():
            write_page(evaluation, out / REPORT, settings, metrics, self.run)
        distributed.wait_for_all(f"shown {out}")
        return metrics


class InTraining:
    """Evaluates a few clips of each task by the weights of a step, for `train.loop.train`.

    What it finds lies in `eval-steps/STEP/` of the run.

    Args:
      config: config of the run; every `eval.every_steps` steps, `eval.every_clips` clips of a task.
      benchmark: its clips and metrics are taken; the generated sounds alone are measured.
      workdir: folder of the run.
    """

    def __init__(self, config: ml_collections.ConfigDict, benchmark: Benchmark, workdir: Path):
        self.every_steps = config.eval.every_steps
        self._config, self._workdir = config, workdir
        self._benchmark = dataclasses.replace(
            benchmark, max_clips=config.eval.every_clips, versions=(), mp4=False
        )
        self._renderer: Renderer | None = None  # one, so that it compiles once

    def __call__(
        self, experiment: Experiment, dataset: Dataset, state: TrainState
    ) -> list[tuple[str, float]]:
        """Names and values of the metrics; none but on the main process."""
        config, benchmark = self._config, self._benchmark
        self._renderer = self._renderer or Renderer(config, experiment, benchmark.measured)
        used = state.averaged
        out = self._workdir / "eval-steps" / str(int(used.step))
        settings = describe(config, benchmark, dataset, used, str(self._workdir), sha256="")
        evaluation = Evaluation(config, benchmark, dataset, benchmark.places(dataset), out)
        metrics = _measure(evaluation, self._renderer, used, settings, replace=True)
        return [
            (name, versions["generated"]["value"])
            for name, versions in metrics.get("metrics", {}).items()
            if "generated" in versions
        ]


def _measure(
    evaluation: Evaluation,
    renderer: Renderer,
    state: InferenceState,
    settings: Mapping[str, Any],
    *,
    replace: bool,
) -> dict[str, Any]:
    """Generate and measure clip by clip, then sum up; see `evaluate`."""
    out = evaluation.out
    if distributed.is_main():
        claim(out, settings, replace)
    distributed.wait_for_all(f"claimed {out}")
    evaluation.run(renderer, state)
    judged = Judged.of(evaluation.config, out)
    judged.extract(evaluation.benchmark, Shown.written(out))
    metrics = {}
    if distributed.is_main():
        lists = evaluation.config.eval.lists
        metrics = sum_up(out, evaluation.benchmark, judged, evaluation.places, settings, lists)
    distributed.wait_for_all(f"summed up {out}")
    return metrics


def is_done(out: Path, config: ml_collections.ConfigDict) -> bool:
    """Whether the last step's evaluation with this sampler and these seeds has been written."""
    path = out / METRICS_FILE
    if not path.exists():
        return False
    metrics = json.loads(path.read_text())
    sampler, seeds = run_config.resolved_values(config.eval.sampler), [*config.eval.seeds]
    found = (metrics["step"], metrics["sampler"], metrics.get("seeds", []))
    return found == (config.train.steps, sampler, seeds)


def write_page(
    evaluation: Evaluation,
    path: Path,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    run: Path | None,
) -> None:
    """Write the page of results to `path`, with the worst and the best clips of an evaluation."""
    out, dataset = evaluation.out, evaluation.dataset

    def view(row: Row) -> ClipView:
        source = dataset.clips(evaluation.benchmark.part, row.task)
        return _view(source[row.index], dataset, out)

    chosen = chosen_rows(rows.read(out), evaluation.config.eval.report_clips)
    write_report(
        path,
        settings=settings,
        results=metrics,
        history=_history(run) if run else [],
        clips=[(row, view(row)) for row in chosen],
    )


def chosen_rows(found: Sequence[Row], count: int) -> list[Row]:
    """The worst and the best clips of each task, so many in all or a few more."""
    good = [row for row in found if not row.failed]
    tasks = sorted({row.task for row in good})
    shown = []
    for task in tasks:
        of_task = sorted((row for row in good if row.task == task), key=lambda row: row.index)
        scores = [row.generated_scores for row in of_task]
        shown += [of_task[i] for i in extremes(task, scores, -(-count // len(tasks)))]
    return shown


def _history(run: Path) -> list[dict[str, float]]:
    """The losses of a run, those of test clips by names of their own."""
    names = {"step": "step", "loss": "held_out", "loss_ema": "held_out_ema"}
    held_out = [
        {here: row[there] for there, here in names.items() if there in row}
        for row in run_files.read_metrics(run, run_files.HELD_OUT)
    ]
    return run_files.read_metrics(run) + held_out


def _view(clip: Clip, dataset: Dataset, out: Path) -> ClipView:
    """The generated and the true sound, with pictures where the former has some.

    Raises:
      UserError: a video or a sound cannot be read.
    """
    wav, mp4 = (out / kind / f"{clip.clip_id}.{kind}" for kind in ("wav", "mp4"))
    samples = clip_view.read_wav(wav, clip.clip_id)
    videos = {"generated": mp4, "reference": as_path(dataset.path, clip.video)}
    sounds = {
        "generated": of_samples(samples, dataset.spec),
        "reference": of_samples(clip.features.sound[: len(samples)], dataset.spec),
    }
    media = {
        # Of a piece of a video there is no file.
        name: clip_view.video(video, clip.clip_id)
        if mp4.exists() and video.is_file()
        else page.sound_uri(sounds[name].samples)
        for name, video in videos.items()
    }
    return ClipView.of(
        [Sound(name, media[name], sound.log_mel) for name, sound in sounds.items()],
        clip.event_times_sec.tolist(),
    )


def print_table(metrics: Mapping[str, Any], out: Path) -> None:
    """Print the scores of each version, as a Markdown table, and where the page is."""
    print(f"\n{parts.markdown(metrics['metrics']) or 'no metrics were measured'}")
    for name, text in parts.warnings(metrics["metrics"]):
        print(f"warning: `{name}`: {text}")
    if metrics["failed"]:
        print(f"{len(metrics['failed'])} clips failed: see {out / METRICS_FILE}")
    print(f"\nopen {out / REPORT}")
