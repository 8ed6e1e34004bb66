"""The evaluation of a benchmark, top to bottom: restore, generate, vocode, measure, summarise.

Clips go through in batches, and what is known of a batch is written before the next but one begins:
the sounds, and a row for each clip of what was measured. So memory does not grow with their number,
and an evaluation that was killed goes on where it was. Of many processes each vocodes, measures and
writes its share of every batch, and the main one sums up.
"""

import dataclasses
import importlib.metadata
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import joblib
import ml_collections
import numpy as np
import soundfile
import tqdm

from vssflow_jax import hosts, media, run_files
from vssflow_jax.audio import mel
from vssflow_jax.dataset import BadRecord, Clip, ClipSource, Dataset
from vssflow_jax.errors import UserError
from vssflow_jax.evaluate import caches, kaldi, rows, set_metrics, summary
from vssflow_jax.evaluate.backbones.extract import NETWORKS, extract
from vssflow_jax.evaluate.definition import Benchmark, Place
from vssflow_jax.evaluate.measures import MEASURES, VERSIONS, Measured, Told, measure
from vssflow_jax.evaluate.ranking import extremes
from vssflow_jax.evaluate.rendering import Renderer, Sound, of_samples
from vssflow_jax.evaluate.report import ReportClip, write_report
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.input import train_batches
from vssflow_jax.run_files import JsonLines
from vssflow_jax.train_step import Recipe, TrainState
from vssflow_jax.trained import digest, restore
from vssflow_jax.workers import pool

SETTINGS, METRICS, PER_CLIP, REPORT = (
    "evaluation.json",
    "metrics.json",
    "per_clip.csv",
    "report.html",
)
PACKAGES = ("jax", "flax", "numpy", "scipy", "librosa", "vssflow-jax")


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
      config: of the model; its `eval` section says how sounds are generated.
      benchmark: which clips, and what is measured.
      out: gets `metrics.json`, `per_clip.csv`, `report.html`, `wav/`, Kaldi's lists, `mp4/` if the
        benchmark asks for it, and `evaluation.json` with all settings.
      run: folder of the run; None for the weights that `train.init_from` names.
      step: of the checkpoint; the newest, if None.
      replace: whether an evaluation of something else in `out` is deleted; else it is an error.

    Returns:
      what `metrics.json` holds. Processes other than the main one return nothing.

    Raises:
      UserError: no checkpoint or another model's, no clips, a damaged dataset, or `out` holds
        another evaluation.
    """
    # -------------------------------------------------------------------------- clips and model
    backbones(config)  # to hear at once if one is not there
    if run:
        run_files.check(run, config)
    recipe = Recipe.from_config(config)
    dataset = Dataset(
        config.data.path, recipe.spec, config.data.durations, config.data.durations_path
    )
    dataset.check_widths(recipe.model.feature_widths)
    places = benchmark.places(dataset)
    size, seed = config.train.batch_size, config.seed
    state = restore(
        recipe, run, step, lambda: train_batches(dataset, config.data.mixture, size, seed)
    )
    sha256 = digest(config, run, int(state.step)) if hosts.is_main() else ""
    settings = describe(config, benchmark, state, str(run or config.train.init_from), sha256)
    if hosts.is_main():
        claim(out, settings, replace)
    hosts.wait_for_all(f"claimed {out}")

    # ---------------------------------------------------------------------------- clip by clip
    renderer = Renderer(config, recipe, benchmark.measured)
    Evaluation(config, benchmark, dataset, places, out).run(renderer, state)

    # ----------------------------------------------------------------------------------- sum up
    metrics: dict[str, Any] = {}
    if hosts.is_main():
        metrics = sum_up(config, benchmark, out, settings, places)
        write_page(config, dataset, benchmark.part, out, settings, metrics, run)
    hosts.wait_for_all(f"summed up {out}")
    return metrics


# ------------------------------------------------------------------------------------- the settings
def describe(
    config: ml_collections.ConfigDict,
    benchmark: Benchmark,
    state: TrainState,
    checkpoint: str,
    sha256: str,
) -> dict[str, Any]:
    """All that the figures depend on, and what they were computed by."""
    return {
        "benchmark": benchmark.name,
        "definition": json.loads(json.dumps(dataclasses.asdict(benchmark))),
        "measures": list(benchmark.measures),
        "checkpoint": checkpoint,
        "checkpoint_sha256": sha256,
        "step": int(state.step),
        "seed": config.eval.seed,
        "sampler": run_files.resolved_values(config.eval.sampler),
        "placement": config.model.placement,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves((state.params, state.frozen))),
        "config": run_files.resolved_values(config),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the figures depend on."""
    names = ("definition", "measures", "checkpoint_sha256", "step", "seed", "sampler")
    data = ("path", "durations", "durations_path")
    sections = ("model", "codec", "vocoder")
    return {
        **{name: settings[name] for name in names},
        **{f"data.{name}": settings["config"]["data"][name] for name in data},
        **{name: settings["config"][name] for name in sections},
    }


def claim(out: Path, settings: Mapping[str, Any], replace: bool) -> None:
    """See that the folder is new or holds this evaluation, and write the settings there.

    Raises:
      UserError: it holds another one, and is not to be replaced.
    """
    path = out / SETTINGS
    if path.exists() or (out / rows.FOLDER).exists():
        wanted = identity(settings)
        try:
            there = identity(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            there = dict.fromkeys(wanted)
        differing = [name for name in wanted if there[name] != wanted[name]]
        if differing and not replace:
            raise UserError(
                f"{out} holds an evaluation of another {differing[0]}; choose another --out, or "
                "delete it"
            )
        if differing:
            # Aside first: what a kill leaves of it must not be taken for this evaluation's.
            old = out.with_name(f"{out.name}.replaced")
            shutil.rmtree(old, ignore_errors=True)
            out.rename(old)
            shutil.rmtree(old)
    try:
        out.mkdir(parents=True, exist_ok=True)
        run_files.write_atomically(path, json.dumps(settings, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror})") from error


def in_training(
    config: ml_collections.ConfigDict, benchmark: Benchmark, workdir: Path
) -> Callable[[Recipe, Dataset, TrainState], dict[str, float]]:
    """For `train`: evaluates a few clips of each task by the weights of a step.

    What it finds lies in `eval-steps/STEP/` of the run.
    """
    few = dataclasses.replace(benchmark, max_clips=config.eval.every_clips, versions=(), mp4=False)
    made: list[Renderer] = []  # one, so that it compiles once

    def evaluate_step(recipe: Recipe, dataset: Dataset, state: TrainState) -> dict[str, float]:
        if not made:
            made.append(Renderer(config, recipe, few.measured))
        out = workdir / "eval-steps" / str(int(state.step))
        places = few.places(dataset)
        settings = describe(config, few, state, str(workdir), sha256="")
        if hosts.is_main():
            claim(out, settings, replace=True)
        hosts.wait_for_all(f"claimed {out}")
        Evaluation(config, few, dataset, places, out).run(made[0], state)
        metrics = sum_up(config, few, out, settings, places) if hosts.is_main() else {"metrics": {}}
        hosts.wait_for_all(f"summed up {out}")
        return {
            name: versions["generated"]["value"] for name, versions in metrics["metrics"].items()
        }

    return evaluate_step


def is_done(out: Path, config: ml_collections.ConfigDict) -> bool:
    """Whether the last step's evaluation with this sampler has been written."""
    path = out / METRICS
    if not path.exists():
        return False
    metrics = json.loads(path.read_text())
    wanted = (config.train.steps, run_files.resolved_values(config.eval.sampler))
    return (metrics["step"], metrics["sampler"]) == wanted


# ------------------------------------------------------------------------------------ clip by clip
@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Clips of a benchmark to rows.

    Attributes:
      config: of the model.
      benchmark: that they are of.
      dataset: that they are in.
      places: where in it.
      out: gets rows and sounds.
    """

    config: ml_collections.ConfigDict
    benchmark: Benchmark
    dataset: Dataset
    places: Sequence[Place]
    out: Path

    def run(self, renderer: Renderer, state: TrainState) -> None:
        """Make the rows that are not there yet; all processes return together."""
        done = {(row.task, row.index) for row in rows.read(self.out) if not row.failed}
        # All have read them before anyone writes another.
        hosts.wait_for_all(f"read {self.out}")
        size = min(self.config.eval.batch_size, len(self.places))
        # Of the same clips however often it is stopped: what is generated may depend on its batch
        # in the last bits.
        batches = [self.places[i : i + size] for i in range(0, len(self.places), size)]
        for kind in ("wav", "reference", *(["mp4"] if self.benchmark.mp4 else [])):
            (self.out / kind).mkdir(exist_ok=True)
        with ExitStack() as closing:
            log = closing.enter_context(rows.log(self.out, jax.process_index()))
            workers = closing.enter_context(measuring(len(self.places) - len(done)))
            bar = closing.enter_context(
                tqdm.tqdm(
                    total=len(self.places),
                    initial=len(done),
                    desc=self.benchmark.name,
                    unit="clip",
                    disable=not hosts.is_main(),
                )
            )
            measured: list[tuple[Row, Future[Measured]]] = []
            for batch in batches:
                missing = [place for place in batch if (place.task, place.index) not in done]
                if missing:
                    # While these are generated, those of the batch before are measured.
                    submitted = self._submit(batch, missing, size, renderer, state, log, workers)
                    self._finish(measured, log)
                    measured = submitted
                    bar.update(len(missing))
            self._finish(measured, log)
        hosts.wait_for_all(f"evaluated {self.out}")

    def _submit(
        self,
        batch: Sequence[Place],
        missing: Sequence[Place],
        size: int,
        renderer: Renderer,
        state: TrainState,
        log: JsonLines,
        workers: Executor,
    ) -> list[tuple[Row, Future[Measured]]]:
        """Generate a batch, write this process's sounds of it, and start to measure them."""
        clips, failed = self._read(batch)
        for place in missing:
            if place in failed and hosts.is_main():
                log.write(dataclasses.asdict(Row(place.task, place.index, failed=failed[place])))
        if not clips:
            return []
        members = list(clips)
        # Filled up, so that all batches have one shape.
        filled = [members[i % len(members)] for i in range(size)]
        others = self._others(filled, clips)
        log_mels = renderer.log_mels(state, [clips[place] for place in filled], others)
        mine = range(jax.process_index(), len(members), jax.process_count())
        own = [index for index in mine if members[index] in missing]
        sounds = renderer.sounds(
            [clips[members[index]] for index in own],
            {version: mels[own] for version, mels in log_mels.items()},
            self.benchmark.clip_sec,
        )
        return [
            self._start(members[index], clips[members[index]], of_clip, renderer, workers)
            for index, of_clip in zip(own, sounds, strict=True)
        ]

    def _read(self, batch: Sequence[Place]) -> tuple[dict[Place, Clip], dict[Place, str]]:
        """The clips of a batch, and why others could not be read."""
        clips, failed = {}, {}
        for place in batch:
            try:
                clip = self._source(place.task)[place.index]
            except BadRecord as error:
                failed[place] = str(error)
                continue
            if len(clip.features.sound):
                clips[place] = clip
            else:
                failed[place] = f"{clip.clip_id} has no sound to hold the generated one against"
        return clips, failed

    def _source(self, task: str) -> ClipSource:
        return self.dataset.clips(self.benchmark.part, task)

    def _others(self, batch: Sequence[Place], clips: Mapping[Place, Clip]) -> list[Clip]:
        """For each clip the next one of its task, round about, if there is any that can be read."""
        if "shuffled" not in self.benchmark.versions:
            return [clips[place] for place in batch]
        others = {}
        for place in set(batch):
            same = [other for other in self.places if other.task == place.task]
            following = same[(same.index(place) + 1) % len(same)]
            found = clips if following in clips else self._read([following])[0]
            others[place] = found.get(following, clips[place])
        return [others[place] for place in batch]

    def _start(
        self,
        place: Place,
        clip: Clip,
        sounds: Mapping[str, Sound],
        renderer: Renderer,
        workers: Executor,
    ) -> tuple[Row, Future[Measured]]:
        """Write a clip's sound, and have it measured."""
        problems = {}
        generated = sounds["generated"]
        wav = self.out / "wav" / f"{clip.clip_id}.wav"
        media.write_wav(wav, generated.samples, mel.SAMPLING_RATE)
        reference = self.out / "reference" / wav.name
        media.write_wav(reference, sounds["ground_truth"].samples, mel.SAMPLING_RATE)
        if self.benchmark.mp4:
            video, mp4 = self.dataset.path / clip.video, self.out / "mp4" / f"{clip.clip_id}.mp4"
            try:
                if not clip.video:
                    raise UserError("the dataset names no video of the clip")
                media.replace_audio(video, generated.waveform, mel.SAMPLING_RATE, mp4)
            except UserError as error:
                problems["mp4"] = str(error)
        told = Told(clip.task, clip.transcript, clip.event_times_sec, self.benchmark.normalisation)
        heard = {version: (sound.waveform, sound.log_mel) for version, sound in sounds.items()}
        row = Row(
            place.task,
            place.index,
            clip.clip_id,
            clip.transcript,
            clip.voice,
            problems=problems,
            generate_sec=renderer.generate_sec,
        )
        return row, workers.submit(measure, told, heard, self.benchmark.measures)

    def _finish(self, measured: Sequence[tuple[Row, Future[Measured]]], log: JsonLines) -> None:
        """Write the rows of clips as they are measured."""
        for row, future in measured:
            found = future.result()
            values = dataclasses.asdict(row) | dataclasses.asdict(found)
            log.write(values | {"problems": {**row.problems, **found.problems}})


@contextmanager
def measuring(clips: int) -> Iterator[Executor]:
    """Processes that measure; a thread for few clips, which would wait for processes to start."""
    workers = min(joblib.cpu_count(), clips // CLIPS_WORTH_A_PROCESS)
    with pool(workers) if workers > 1 else ThreadPoolExecutor(1) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


CLIPS_WORTH_A_PROCESS = 16


# ------------------------------------------------------------------------------------------ sum up
def sum_up(
    config: ml_collections.ConfigDict,
    benchmark: Benchmark,
    out: Path,
    settings: Mapping[str, Any],
    places: Sequence[Place],
) -> dict[str, Any]:
    """Write the scores of all rows: `metrics.json`, `per_clip.csv` and Kaldi's lists."""
    order = {(place.task, place.index): number for number, place in enumerate(places)}
    found = sorted(rows.read(out), key=lambda row: order[row.task, row.index])
    good = [row for row in found if not row.failed]
    if not good:
        raise UserError(f"{out}: all {len(found)} clips failed; the first: {found[0].failed}")
    of_sets, missing = _set_scores(config, benchmark, out, good)
    # Those that networks give to single clips are among the rows' own now.
    names = [name for name in benchmark.metrics if name in MEASURES or name in caches.METRICS]
    scores = summary.scores(good, names, benchmark.measured)
    timed = [row.generate_sec for row in good if row.generate_sec is not None]
    metrics = {
        "benchmark": benchmark.name,
        "step": settings["step"],
        "clips": len(good),
        "sampler": settings["sampler"],
        "generate_sec_per_clip": float(np.mean(timed)) if timed else None,
        "metrics": scores | of_sets,
        "absent": benchmark.absent | missing,
        "failed": {
            row.clip_id or f"{row.task} {row.index}": row.failed for row in found if row.failed
        },
        "problems": {row.clip_id: row.problems for row in good if row.problems},
    }
    summary.write_per_clip(out / PER_CLIP, good)
    kaldi.write_lists(out / "wav", good)
    run_files.write_atomically(out / METRICS, json.dumps(metrics, indent=2) + "\n")
    return metrics


def _set_scores(
    config: ml_collections.ConfigDict,
    benchmark: Benchmark,
    out: Path,
    good: Sequence[Row],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Scores of all clips together, and how to get those that are not there.

    Those that networks give to single clips go into the rows.
    """
    found: dict[str, Any] = {}
    absent: dict[str, str] = {}
    if set_metrics.MEL in benchmark.metrics:
        try:
            distances = set_metrics.mel_distances(good, benchmark.measured)
            found[set_metrics.MEL] = summary.without_interval(distances, len(good))
        except UserError as error:
            absent[set_metrics.MEL] = str(error)
    networks = backbones(config)
    folders = {
        kind: Path(config.eval.features[kind] or out / "features" / kind)
        for kind in ("generated", "reference")
    }
    extractable = {name: networks[name] for name in NETWORKS if name in networks}
    unheard: dict[str, str] = {}
    if extractable:
        for kind, sounds in (("generated", "wav"), ("reference", "reference")):
            if config.eval.features[kind]:
                continue
            try:
                unheard |= extract(
                    out / sounds, folders[kind], extractable, benchmark.clip_sec or None
                )
            except UserError as error:
                print(f"no features of the {kind} sounds: {error}", file=sys.stderr)
    by_id = {row.clip_id: row for row in good}
    for name, reason in unheard.items():
        by_id[Path(name).stem].problems["features"] = reason
    for name in benchmark.metrics:
        if name not in caches.METRICS:
            continue
        if reason := caches.absent(name, **_dirs(folders), backbones=networks):
            absent[name] = reason
            continue
        try:
            score = caches.measure(name, **_dirs(folders), backbones=networks)
            clips = len(good) - len(unheard)
            if not score.per_clip:
                found[name] = summary.without_interval({"generated": score.value}, clips)
            for clip_id, value in score.per_clip.items():
                if clip_id in by_id:
                    by_id[clip_id].scores["generated"][name] = (value, 1.0)
        except UserError as error:
            absent[name] = str(error)
    return found, absent


def _dirs(folders: Mapping[str, Path]) -> dict[str, Path]:
    return {f"{kind}_dir": folder for kind, folder in folders.items()}


def backbones(config: ml_collections.ConfigDict) -> dict[str, Path]:
    """The networks whose files the config names.

    Raises:
      UserError: there is no such file.
    """
    found = {name: Path(path) for name, path in config.eval.backbones.items() if path}
    for name, path in found.items():
        if not path.is_file():
            raise UserError(f"eval.backbones.{name} is {path}; there is no such file")
    return found


def write_page(
    config: ml_collections.ConfigDict,
    dataset: Dataset,
    part: str,
    out: Path,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    run: Path | None,
) -> None:
    """Write `report.html`, with the worst and the best clips of each task."""
    good = [row for row in rows.read(out) if not row.failed]
    tasks = sorted({row.task for row in good})
    share = -(-config.eval.report_clips // len(tasks))
    shown = []
    for task in tasks:
        of_task = sorted((row for row in good if row.task == task), key=lambda row: row.index)
        chosen = extremes(task, [summary.of_clip(row) for row in of_task], share)
        source = dataset.clips(part, task)
        shown += [_shown(of_task[i], source[of_task[i].index], dataset, out) for i in chosen]
    write_report(
        out / REPORT,
        settings=settings,
        results=metrics,
        history=run_files.read_metrics(run) if run else [],
        clips=shown,
    )


def _shown(row: Row, clip: Clip, dataset: Dataset, out: Path) -> ReportClip:
    wav, mp4 = (out / kind / f"{clip.clip_id}.{kind}" for kind in ("wav", "mp4"))
    video = dataset.path / clip.video
    samples, _ = soundfile.read(wav, dtype="int16")
    generated = of_samples(samples, dataset.spec)
    truth = of_samples(clip.features.sound[: len(samples)], dataset.spec)
    return ReportClip(
        clip_id=clip.clip_id,
        task=clip.task,
        transcript=clip.transcript,
        recognised=row.recognised.get("generated", ""),
        scores=summary.of_clip(row),
        generated_video=mp4 if mp4.exists() else None,
        reference_video=video if mp4.exists() else None,
        generated_wav=wav,
        reference_waveform=truth.waveform,
        generated_log_mel=generated.log_mel,
        reference_log_mel=truth.log_mel,
        event_times_sec=clip.event_times_sec.tolist(),
    )


def print_table(metrics: Mapping[str, Any], out: Path) -> None:
    """Print the scores of each version, and where the page is."""
    versions = [
        version
        for version in VERSIONS
        if any(version in values for values in metrics["metrics"].values())
    ]
    print(f"\n{'':26}" + "".join(f"{version:>14}" for version in versions))
    for name, values in metrics["metrics"].items():
        cells = [f"{values[v]['value']:14.3f}" if v in values else f"{'':14}" for v in versions]
        print(f"{name:26}" + "".join(cells))
    if metrics["failed"]:
        print(f"{len(metrics['failed'])} clips failed: see {out / METRICS}")
    print(f"\nopen {out / REPORT}")
